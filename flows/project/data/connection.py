"""Open the workspace's tables in DuckDB: a view for each kind, and no access to anything else.

A view reads its Parquet files in place. Queries can read no other files: `enable_external_access` is off, the files are the only
`allowed_paths`, extensions are neither installed nor loaded, and the configuration is locked.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import duckdb
import polars as pl

from flows.execution import workspace
from tasks.core.records import Decision, Document, Example, FaultPair, Lineage, Refusal, Result, SensitiveText, Signals
from tasks.core.text.sensitive import search
from tasks.io import review_decisions, tables

R = TypeVar("R")
DATA = Path("data")
DECISIONS = tuple(DATA / f"review_{about}.jsonl" for about in ("decisions", "records", "items"))
FOLDERS = ("ingested/*.parquet", "rounds/*/*.parquet", "results/*/*.parquet")
"""Folders of tables below `data/`. Results on the gate set are excluded, because reading them is a look that the gate counts."""


@dataclass(frozen=True)
class Table:
    """A kind of table."""

    record: type[Any]
    files: str
    """A pattern of paths. Its groups are further columns."""
    stage: str
    """The stage that writes the table."""


TABLES = {
    "examples": Table(Example, r"data/(?:ingested/(?:valid|test|gate)|rounds/r0/examples)\.parquet", "ingest"),
    "benchmark": Table(Example, r"data/ingested/benchmark\.parquet", "ingest"),
    "documents": Table(Document, r"data/ingested/\w+_documents\.parquet", "ingest"),
    "quarantine": Table(Refusal, r"data/ingested/quarantine\.parquet", "ingest"),
    "sensitive": Table(SensitiveText, r"data/ingested/sensitive\.parquet", "ingest"),
    "rounds": Table(Example, r"data/rounds/(?P<round_name>[^/]+)/examples\.parquet", "ingest"),
    "signals": Table(Signals, r"data/rounds/(?P<turn>[^/]+)/signals\.parquet", "diagnose"),
    "lineage": Table(Lineage, r"data/rounds/(?P<turn>[^/]+)/lineage\.parquet", "refine"),
    "faults": Table(FaultPair, r"data/rounds/(?P<round_name>[^/]+)/faults\.parquet", "faults"),
    "results": Table(Result, r"data/results/(?P<model_group>[^/]+)/(?P<model>[^/]+)\.parquet", "evaluate"),
}
"""View → description of its contents. `decisions` and `texts` are views too."""

TEXTS = """
CREATE VIEW texts AS
WITH turns AS (
    SELECT 'examples' AS kind, id, split, source, unnest(messages) AS turn FROM examples
    UNION ALL SELECT 'benchmark', id, split, source, unnest(messages) FROM benchmark
    UNION ALL SELECT 'rounds', id, round_name, source, unnest(messages) FROM rounds WHERE round > 0
), calls AS (
    SELECT kind, id, split, source, unnest(turn.tool_calls) AS call FROM turns
)
SELECT kind, id, split, source, turn.role AS part, turn.content AS text FROM turns
UNION ALL SELECT kind, id, split, source, 'call of ' || call.name, call.arguments FROM calls
UNION ALL SELECT 'examples', id, split, source, 'rejected', rejected FROM examples WHERE rejected IS NOT NULL
UNION ALL SELECT 'examples', id, split, source, 'tests', tests.code FROM examples WHERE tests IS NOT NULL
UNION ALL SELECT 'documents', id, split, source, 'text', text FROM documents
UNION ALL SELECT 'quarantine', "where", 'refused', source, reason, record FROM quarantine
"""
"""All texts, one in each row, for searches."""


def files_here() -> dict[str, Path]:
    """Return the workspace's tables: path → file. Raises FileNotFoundError if there is none of stage `ingest`."""
    files = {path.as_posix(): path for pattern in FOLDERS for path in sorted(DATA.glob(pattern))}
    if not any(path.startswith("data/ingested/") for path in files):
        raise FileNotFoundError("data/ingested holds no tables yet. Make them:\n  ratchet run ingest")
    return files


@contextmanager
def opened() -> Iterator[duckdb.DuckDBPyConnection]:
    """Yield a connection with a view for each kind of table of the workspace, and those of `decisions` and `texts`.

    A kind without a file is an empty view. Raises FileNotFoundError if there is no table yet, ValueError if a file is not Parquet.
    """
    with _locked({"main": files_here()}) as connection:
        yield connection


@contextmanager
def opened_side_by_side(sides: Mapping[str, Mapping[str, Path]]) -> Iterator[duckdb.DuckDBPyConnection]:
    """Yield a connection with the views of several sets of tables, each in the schema of its name: path → file."""
    with _locked(sides) as connection:
        yield connection


@contextmanager
def _locked(sides: Mapping[str, Mapping[str, Path]]) -> Iterator[duckdb.DuckDBPyConnection]:
    allowed = ", ".join(_quoted(str(file)) for files in sides.values() for file in files.values())
    with duckdb.connect() as connection:
        connection.execute("SET python_enable_replacements = false")
        connection.execute(f"SET temp_directory = {_quoted((workspace.SCRATCH / 'duckdb').as_posix())}")
        connection.execute(f"SET allowed_paths = [{allowed}]")
        connection.execute("CREATE SCHEMA empty")
        for name, table in TABLES.items():
            schema = {column: pl.String() for column in re.compile(table.files).groupindex}
            _create_table(connection, f"empty.{name}", pl.DataFrame(schema={**schema, **tables.schema(table.record)}))
        for side, files in sides.items():
            connection.execute(f"CREATE SCHEMA IF NOT EXISTS {side}")
            for name, table in TABLES.items():
                _create_view(connection, f"{side}.{name}", f"empty.{name}", table, files)
        if "main" in sides:
            _create_decisions(connection)
            connection.execute(TEXTS)
        for setting in ("enable_external_access = false", "lock_configuration = true"):
            connection.execute(f"SET {setting}")
        yield connection


def rows(connection: duckdb.DuckDBPyConnection, query: str, parameters: Sequence[object] = ()) -> list[dict[str, Any]]:
    """Return the rows of a query as dictionaries, without secrets."""
    result = connection.execute(query, parameters)
    names = [column[0] for column in result.description or ()]
    return [dict(zip(names, without_secrets(values), strict=True)) for values in result.fetchall()]


def records(connection: duckdb.DuckDBPyConnection, query: str, record: type[R], *parameters: object) -> list[R]:
    """Return the rows of a query as records of a dataclass whose fields are its columns, without secrets."""
    return [record(**row) for row in rows(connection, query, parameters)]


def files_of(table: Table, files: Mapping[str, Path]) -> Iterator[tuple[Path, dict[str, str]]]:
    """Yield the files of a table, each with the columns that follow from its path."""
    for path, file in files.items():
        if match := re.fullmatch(table.files, path):
            yield file, match.groupdict()


def _create_view(
    connection: duckdb.DuckDBPyConnection, name: str, empty: str, table: Table, files: Mapping[str, Path]
) -> None:
    """Create the view of a table, with the columns of its record and the rows of its files."""
    parts = [f"FROM {empty}"]
    for file, columns in files_of(table, files):
        extra = "".join(f", {_quoted(value)} AS {column}" for column, value in columns.items())
        parts.append(f"SELECT *{extra} FROM read_parquet({_quoted(str(file))})")
    try:
        connection.execute(f"CREATE VIEW {name} AS {' UNION ALL BY NAME '.join(parts)}")
    except (duckdb.InvalidInputException, duckdb.IOException) as error:
        raise ValueError(f"{first_line(error)} Make the table again:\n  ratchet run {table.stage}") from None


def _create_decisions(connection: duckdb.DuckDBPyConnection) -> None:
    decisions = [
        decision for file in DECISIONS if file.is_file() for decision in review_decisions.counting(file).values()
    ]
    frame = pl.DataFrame([vars(decision) for decision in decisions], schema=tables.schema(Decision), orient="row")
    _create_table(connection, "decisions", frame)


def _create_table(connection: duckdb.DuckDBPyConnection, name: str, frame: pl.DataFrame) -> None:
    connection.register("frame", frame.to_arrow())
    connection.execute(f"CREATE TABLE {name} AS SELECT * FROM frame")
    connection.unregister("frame")


def without_secrets(value: Any) -> Any:
    """Return a value of a table, including lists and structs, with placeholders for the secrets in its texts."""
    if isinstance(value, str):
        return search.redacted(value, search.SECRETS)
    if isinstance(value, dict):
        return {name: without_secrets(item) for name, item in value.items()}
    return [without_secrets(item) for item in value] if isinstance(value, list | tuple) else value


def first_line(error: Exception) -> str:
    """Return DuckDB's message as one sentence, without its drawing of the place in the query."""
    line = str(error).strip().splitlines()[0].strip()
    return line if line.endswith((".", "!", "?")) else f"{line}."


def _quoted(text: str) -> str:
    """Return a string literal of SQL."""
    return "'" + text.replace("'", "''") + "'"
