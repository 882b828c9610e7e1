"""Records as columns: a frame of many records at once, some ten times as fast as by rows."""

import dataclasses
import types
import typing
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any, Literal

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

PLAIN = {str: pa.large_string(), int: pa.int64(), float: pa.float64(), bool: pa.bool_()}


def frame(rows: Sequence[Any], record: type[Any]) -> pl.DataFrame:
    """Return the records as a frame with the schema that `tables.schema` has for them."""
    return pl.DataFrame(pl.from_arrow(pa.table(_children(rows, record))))


def lists_of_records(length: int, record: type[Any], texts: Mapping[str, Sequence[str]]) -> pl.Series:
    """Return lists of so many records each, which stand one after the other. Of their fields, all but `texts` are empty."""
    num_records = len(next(iter(texts.values())))
    fields = [
        pa.array(texts[name], pa.large_string()) if name in texts else pa.nulls(num_records, empty.type)
        for name, empty in _children([], record).items()
    ]
    structs = pa.StructArray.from_arrays(fields, list(_children([], record)))
    ends = pa.array(np.arange(0, num_records + 1, length), pa.int64())
    return pl.Series(pl.from_arrow(pa.LargeListArray.from_arrays(ends, structs)))


def _children(values: Sequence[Any], record: type[Any]) -> dict[str, pa.Array]:
    hints = typing.get_type_hints(record)
    return {
        field.name: _array([None if value is None else getattr(value, field.name) for value in values], hints[field.name])
        for field in dataclasses.fields(record)
    }  # fmt: skip


def _array(values: list[Any], annotation: Any) -> pa.Array:
    """Return the values, of which some may be None, as an array of the type that the annotation stands for."""
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        (annotation,) = (part for part in typing.get_args(annotation) if part is not types.NoneType)
    if typing.get_origin(annotation) is Literal:
        annotation = str
    if annotation in PLAIN:
        return pa.array(values, PLAIN[annotation])
    is_null = pa.array([value is None for value in values], pa.bool_())
    if typing.get_origin(annotation) is list:
        ends = pa.array([0, *(len(value or ()) for value in values)], pa.int64())
        items = _array(list(chain.from_iterable(value or () for value in values)), typing.get_args(annotation)[0])
        return pa.LargeListArray.from_arrays(pc.cumulative_sum(ends), items, mask=is_null)
    children = _children(values, annotation)
    return pa.StructArray.from_arrays(list(children.values()), names=list(children), mask=is_null)
