"""Tables of records as Parquet: one dataclass is one schema, and equal rows give equal bytes."""

import dataclasses
import itertools
import types
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Literal, TypeVar, Union

import polars as pl
from polars.io.plugins import register_io_source

from tasks.io.system import files

R = TypeVar("R")
ROWS_PER_GROUP = 10_000
ROWS_AT_ONCE = 500
"""Number of records of a stream in memory at a time."""


def read(path: Path, record: type[R]) -> list[R]:
    """Read the rows of the table at `path`.

    Raises FileNotFoundError without a table, and ValueError naming column and row if it does not fit `record`.
    """
    _check_presence(path, record)
    return records(frame(path, record), record)


def stream(path: Path, record: type[R], first: int = 0) -> Iterator[R]:
    """Yield the rows of the table at `path` from number `first` on, with one row group in memory at a time. Raises like `read`."""
    num_rows = count(path, record)
    while first < num_rows:
        end = min((first // ROWS_PER_GROUP + 1) * ROWS_PER_GROUP, num_rows)
        rows = _checked(path, pl.scan_parquet(path).slice(first, end - first).collect(), record)
        for part in rows.iter_slices(ROWS_AT_ONCE):
            yield from records(part, record)
        first = end


def count(path: Path, record: type[Any]) -> int:
    """Return the number of rows of the table at `path`. Raises like `read`."""
    _check_presence(path, record)
    return int(_readable(path, lambda: pl.scan_parquet(path).select(pl.len()).collect()).item())


def records(frame: pl.DataFrame, record: type[R]) -> list[R]:
    """Return the rows of a frame as records. They are built by column, in half the time of building by row."""
    return list(map(record, *_columns(frame, record)))


def frame(path: Path, record: type[Any]) -> pl.DataFrame:
    """Read the table at `path` as a polars frame, checked against `record`. A column newer than the table gets its default."""
    return _checked(path, _readable(path, lambda: pl.read_parquet(path)), record)


def _readable(path: Path, read: Callable[[], pl.DataFrame]) -> pl.DataFrame:
    """Return the content of the file at `path` for `read`."""
    try:
        return read()
    except pl.exceptions.PolarsError as error:
        raise ValueError(f"{path} is not a Parquet file: {error}. `dvc repro` makes it again.") from None


def _check_presence(path: Path, record: type[Any]) -> None:
    if not path.is_file():
        raise FileNotFoundError(f"{path}: there is no table of {record.__name__} here. `ratchet run` makes it.")


def _checked(path: Path, table: pl.DataFrame, record: type[Any]) -> pl.DataFrame:
    """Return a frame of the table at `path`, checked against `record`, with the defaults of columns newer than the table."""
    table = table.with_columns(
        pl.lit(field.default, schema(record)[field.name]).alias(field.name)
        for field in dataclasses.fields(record)
        if field.name not in table.columns and field.default is not dataclasses.MISSING
    )
    _check(path, table, record)
    return table


def scan(paths: Sequence[Path], record: type[Any]) -> pl.LazyFrame:
    """Return the rows of several tables (or of none) as a query."""
    return pl.scan_parquet(list(paths)) if paths else pl.DataFrame(schema=schema(record)).lazy()


def facts_of(path: Path) -> dict[str, str]:
    """Return the facts that were written about the whole table at `path`, by name."""
    return {name: value for name, value in pl.read_parquet_metadata(path).items() if not name.startswith("ARROW:")}


def write(path: Path, rows: Iterable[Any], record: type[Any], facts: Mapping[str, str] | None = None) -> None:
    """Write `rows` in their order to `path`, completely or not at all, with zstd, fixed row groups and no time stamp.

    `facts` are about the whole table.
    """
    data = [_plain(row) for row in rows]
    table = pl.DataFrame(data, schema=schema(record), orient="row")
    _check(path, table, record)
    with files.atomic_path(path) as partial:
        table.write_parquet(
            partial,
            compression="zstd",
            row_group_size=ROWS_PER_GROUP,
            statistics=True,
            metadata=dict(facts) if facts else None,
        )


def sink(path: Path, frames: Callable[[], Iterator[pl.DataFrame]], record: type[Any]) -> None:
    """Write the frames that `frames` yields, one after the other, like `write`. The table need not fit in memory.

    The bytes depend only on the rows, not on their division into frames.
    """
    sink_query(path, register_io_source(lambda *_options: frames(), schema=schema(record)), record)


def sink_query(path: Path, query: pl.LazyFrame, record: type[Any]) -> None:
    """Write the rows of a query like `sink`."""
    query = query.match_to_schema(schema(record))
    with files.atomic_path(path) as partial:
        query.sink_parquet(partial, compression="zstd", row_group_size=ROWS_PER_GROUP, statistics=True)


def _plain(value: Any) -> Any:
    """Return a record, with the records inside it, as a dictionary. `dataclasses.asdict` also copies every value, which takes four times
    as long."""
    if names := getattr(value, "__dataclass_fields__", None):
        return {name: _plain(getattr(value, name)) for name in names}
    return [_plain(item) for item in value] if isinstance(value, list) else value


def _check(path: Path, table: pl.DataFrame, record: type[Any]) -> None:
    """Raise ValueError that names every column that does not fit, and the first row with a missing value in a column that requires one."""
    expected = schema(record)
    problems = [f"column {name!r} is missing" for name in expected if name not in table.columns]
    problems += [f"column {name!r} is unknown" for name in table.columns if name not in expected]
    problems += [
        f"column {name!r} holds {table.schema[name]}, not {dtype}"
        for name, dtype in expected.items()
        if name in table.columns and table.schema[name] != dtype
    ]
    problems += [
        f"column {name!r} is empty in row {table[name].is_null().arg_true()[0]}"
        for name, annotation in _fields(record).items()
        if name in table.columns and not _optional(annotation) and table[name].null_count()
    ]
    if problems:
        raise ValueError(f"{path} is no table of {record.__name__}: {'; '.join(problems)}.")


def schema(record: type[Any]) -> dict[str, pl.DataType]:
    """Return the polars schema of a record: a column for each field."""
    return {name: _dtype(annotation) for name, annotation in _fields(record).items()}


def _fields(record: Any) -> dict[str, Any]:
    return _known_fields(record)


@cache
def _known_fields(record: Any) -> dict[str, Any]:
    hints = typing.get_type_hints(record)
    return {field.name: hints[field.name] for field in dataclasses.fields(record)}


def _optional(annotation: Any) -> bool:
    return typing.get_origin(annotation) in (Union, types.UnionType) and types.NoneType in typing.get_args(annotation)


def _bare(annotation: Any) -> Any:
    """Return the annotation without `| None`."""
    if _optional(annotation):
        return next(part for part in typing.get_args(annotation) if part is not types.NoneType)
    return annotation


def _dtype(annotation: Any) -> pl.DataType:
    annotation = _bare(annotation)
    plain: dict[Any, pl.DataType] = {str: pl.String(), int: pl.Int64(), float: pl.Float64(), bool: pl.Boolean()}
    if annotation in plain:
        return plain[annotation]
    if typing.get_origin(annotation) is Literal:
        return pl.String()
    if typing.get_origin(annotation) is list:
        return pl.List(_dtype(typing.get_args(annotation)[0]))
    assert dataclasses.is_dataclass(annotation), f"no column type for {annotation}"
    return pl.Struct(schema(typing.cast(type[Any], annotation)))


def _columns(frame: pl.DataFrame, record: type[Any]) -> list[list[Any]]:
    """Return the values of each field of a record, in their order."""
    return [_values(frame[name], annotation) for name, annotation in _fields(record).items()]


def _values(column: pl.Series, annotation: Any) -> list[Any]:
    """Return the values of a column, with records built from nested values; None for missing values."""
    annotation = _bare(annotation)
    if not _holds_records(annotation):
        return column.to_list()
    there = column.drop_nulls()
    made: Iterator[Any]
    if dataclasses.is_dataclass(annotation):
        make = typing.cast(Callable[..., Any], annotation)
        made = map(make, *_columns(there.struct.unnest(), typing.cast(type[Any], annotation)))
    else:
        lengths = there.list.len()
        parts = iter(_values(there.filter(lengths > 0).explode(), typing.get_args(annotation)[0]))
        made = (list(itertools.islice(parts, length)) for length in lengths)
    are_there = column.is_not_null()
    return [next(made) if is_there else None for is_there in are_there]


@cache
def _holds_records(annotation: Any) -> bool:
    """Return True if a field is a record or a list of records, at any depth."""
    annotation = _bare(annotation)
    if typing.get_origin(annotation) is list:
        return _holds_records(typing.get_args(annotation)[0])
    return dataclasses.is_dataclass(annotation)
