"""Rows of a table on disk: JSONL, JSON, CSV or Parquet. A record that cannot be read is yielded as `Broken`, with its line."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import polars as pl


@dataclass(frozen=True)
class Row:
    """A record and its place."""

    where: str
    """`line 3`, or `row 3` if a format has no lines."""
    values: dict[str, Any]


@dataclass(frozen=True)
class Broken:
    """A record that could not be read."""

    where: str
    reason: str
    detail: str
    record: str


def rows(path: Path) -> Iterator[Row | Broken]:
    """Yield the records of the table at `path`, in order.

    Raises FileNotFoundError without the file, and ValueError if it is not of the format that its suffix names.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: there is no such file. Correct the path in `ingest` in params.yaml.")
    yield from READERS[path.suffix.lower()](path)


def _json_lines(path: Path) -> Iterator[Row | Broken]:
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if line.strip():
                yield _json_line(f"line {number}", line.removeprefix(b"\xef\xbb\xbf"))


def _json_line(where: str, line: bytes) -> Row | Broken:
    shown = line.decode("utf-8", "replace").rstrip()
    try:
        value = json.loads(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        return Broken(where, "not UTF-8", f"byte {error.start + 1} of the line is {line[error.start]:#04x}", shown)
    except ValueError as error:
        return Broken(where, "not JSON", str(error), shown)
    except RecursionError:
        return Broken(where, "not JSON", "it is nested too deeply", shown)
    if not isinstance(value, dict):
        return Broken(where, "not an object", f"expected {{…}}, found a {type(value).__name__}", shown)
    return Row(where, value)


def _json(path: Path) -> Iterator[Row | Broken]:
    try:
        values = json.loads(path.read_text(encoding="utf-8-sig"))
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: byte {error.start + 1} is not UTF-8. Save the file as UTF-8.") from None
    except ValueError as error:
        raise ValueError(f"{path}: this is no JSON: {error}. A file of one object a line ends in .jsonl.") from None
    if not isinstance(values, list):
        raise ValueError(f"{path}: expected a list of objects, found a {type(values).__name__}.")
    for number, value in enumerate(values, 1):
        where = f"row {number}"
        if isinstance(value, dict):
            yield Row(where, value)
        else:
            yield Broken(where, "not an object", f"expected {{…}}, found a {type(value).__name__}", json.dumps(value))


def _csv(path: Path) -> Iterator[Row | Broken]:
    """Read CSV by DuckDB, which reports each rejected line with its number and reason."""
    with duckdb.connect() as connection:
        try:
            table = connection.execute(
                "SELECT * FROM read_csv(?, header = true, all_varchar = true, store_rejects = true,"
                " delim = ',', quote = '\"', escape = '\"', max_line_size = 16000000)",
                [str(path)],
            )
        except duckdb.Error as error:
            raise ValueError(f"{path}: this is no CSV with a header and commas: {first_line(error)}") from None
        names = [column[0] for column in table.description or ()]
        records = table.fetchall()
        rejected = connection.execute(
            "SELECT line, error_type, error_message, csv_line FROM reject_errors ORDER BY line, byte_position"
        ).fetchall()
    for number, values in enumerate(records, 1):
        yield Row(f"row {number}", dict(zip(names, values, strict=True)))
    for line, kind, message, text in rejected:
        yield Broken(f"line {line}", f"csv: {kind.lower()}", message, text or "")


def _parquet(path: Path) -> Iterator[Row | Broken]:
    try:
        table = pl.read_parquet(path)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise ValueError(f"{path}: this is no Parquet file: {first_line(error)}") from None
    for number, values in enumerate(table.iter_rows(named=True), 1):
        yield Row(f"row {number}", values)


def first_line(error: Exception) -> str:
    """Return the first line of an error's message; its class without one."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


READERS: dict[str, Callable[[Path], Iterator[Row | Broken]]] = {
    ".jsonl": _json_lines,
    ".ndjson": _json_lines,
    ".json": _json,
    ".csv": _csv,
    ".parquet": _parquet,
}
