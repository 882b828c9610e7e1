"""Records as columns: build a frame from many records at once, about ten times as fast as row by row."""

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
from numpy.typing import NDArray

PLAIN: dict[Any, type[pl.DataType]] = {str: pl.String, int: pl.Int64, float: pl.Float64, bool: pl.Boolean}


def frame(rows: Sequence[Any], record: type[Any]) -> pl.DataFrame:
    """Return the records as a frame with the schema of `tables.schema`."""
    return pl.DataFrame(pl.from_arrow(pa.table(_children(rows, record))))


def lists_of_records(length: int, record: type[Any], texts: Mapping[str, Sequence[str]]) -> pl.Series:
    """Return lists of records with the given lengths, from records that follow each other. All fields except `texts` are empty."""
    num_records = len(next(iter(texts.values())))
    fields = [
        _plain(texts[name], str) if name in texts else pa.nulls(num_records, empty.type)
        for name, empty in _children([], record).items()
    ]
    structs = pa.StructArray.from_arrays(fields, list(_children([], record)))
    ends = _plain(np.arange(0, num_records + 1, length), int)
    return pl.Series(pl.from_arrow(pa.LargeListArray.from_arrays(ends, structs)))


def _children(values: Sequence[Any], record: type[Any]) -> dict[str, pa.Array]:
    hints = typing.get_type_hints(record)
    return {
        field.name: _array([None if value is None else getattr(value, field.name) for value in values], hints[field.name])
        for field in dataclasses.fields(record)
    }  # fmt: skip


def _array(values: list[Any], annotation: Any) -> pa.Array:
    """Return the values, some of which may be None, as an array of the annotation's type."""
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        (annotation,) = (part for part in typing.get_args(annotation) if part is not types.NoneType)
    if typing.get_origin(annotation) is Literal:
        annotation = str
    if annotation in PLAIN:
        return _plain(values, annotation)
    is_null = _plain([value is None for value in values], bool)
    if typing.get_origin(annotation) is list:
        ends = _plain([0, *(len(value or ()) for value in values)], int)
        items = _array(list(chain.from_iterable(value or () for value in values)), typing.get_args(annotation)[0])
        return pa.LargeListArray.from_arrays(pc.cumulative_sum(ends), items, mask=is_null)
    children = _children(values, annotation)
    return pa.StructArray.from_arrays(list(children.values()), names=list(children), mask=is_null)


def _plain(values: Sequence[Any] | NDArray[Any], annotation: type[Any]) -> pa.Array:
    """Return the values as an array, without `pa.array`, which would import pandas and take a third of a second."""
    return pl.Series(values=values, dtype=PLAIN[annotation]).to_arrow(compat_level=pl.CompatLevel.oldest())
