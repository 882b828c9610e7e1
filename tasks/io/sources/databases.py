"""Rows of a query to SQLite, DuckDB or PostgreSQL. The database is opened read-only."""

import sqlite3
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from tasks.core.text.visible import PASSWORD
from tasks.io.sources.record import Broken, Record, Row, first_line

POSTGRES = ("postgresql://", "postgres://")
ROWS = 1_000
"""Number of rows that are fetched at a time."""


def rows(database: str, query: str) -> Iterator[Record]:
    """Yield the rows of a query, in its order.

    Raises ValueError if the database cannot be opened or refuses the query, and if two of its columns have one name.
    If a file cannot be read to its end, which repeats every time, the last record is `Broken` and states after which row. An incomplete result
    of a server must not pass for a complete one: a lost connection raises ConnectionError, because the server may return, and a row that the
    server cannot compute raises ValueError.
    """
    on_server, name = is_on_server(database), shown(database)
    batches, errors = _postgres(database, query) if on_server else _file(Path(database), query)
    number = 0
    try:
        with closing(batches):
            for columns, batch in batches:
                if not number and len(set(columns)) < len(columns):
                    twice = next(column for column in columns if columns.count(column) > 1)
                    raise ValueError(
                        f"{name}: the query gives two columns the name {twice!r}. Name each: SELECT a.{twice} AS prompt, …"
                    )
                for values in batch:
                    number += 1
                    yield Row(f"row {number}", dict(zip(columns, values, strict=True)))
    except errors as error:
        if not number:
            raise ValueError(f"{name}: the query failed: {first_line(error)}") from None
        if isinstance(error, ConnectionError):
            raise ConnectionError(
                f"{name}: the database went away after row {number}: {first_line(error)}. Run it again when it is there."
            ) from None
        if on_server:
            raise ValueError(f"{name}: the query failed after row {number}: {first_line(error)}") from None
        yield Broken(f"after row {number}", "database went away", first_line(error), "")


def is_on_server(database: str) -> bool:
    """Return True for the address of a PostgreSQL database, False for the file of a database."""
    return database.startswith(POSTGRES)


def shown(database: str) -> str:
    """Return the name of a database without user and password."""
    if not is_on_server(database):
        return database
    address = urlsplit(PASSWORD.sub(r"\1@", database))
    return f"postgresql://{address.hostname or 'localhost'}{address.path}"


TABLES = {
    False: "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%' ORDER BY name",
    True: """SELECT CASE table_schema WHEN 'public' THEN table_name ELSE table_schema || '.' || table_name END AS name
        FROM information_schema.tables WHERE table_schema NOT IN ('pg_catalog', 'information_schema') ORDER BY name""",
}
"""The query for the names of tables: True for a database on a server. DuckDB supports SQLite's table too."""


def tables(database: str) -> list[str]:
    """Return the names of the tables in a database. Raises ValueError if it is not a database."""
    names = []
    for record in rows(database, TABLES[is_on_server(database)]):
        if isinstance(record, Broken):
            raise ValueError(f"{shown(database)}: {record.detail}")
        names.append(str(record.values["name"]))
    return names


Batch = tuple[list[str], list[tuple[Any, ...]]]
"""The names of the columns, and some rows."""
Batches = tuple[Generator[Batch], tuple[type[Exception], ...]]


def _file(path: Path, query: str) -> Batches:
    if not path.is_file():
        raise FileNotFoundError(f"{path}: there is no such database. Correct `database` in `ingest` in params.yaml.")
    with path.open("rb") as file:
        head = file.read(16)
    if head.startswith(b"SQLite format 3\x00"):
        return _sqlite(path, query), (sqlite3.Error, OSError)
    if head[8:12] == b"DUCK":
        import duckdb

        return _duckdb(path, query), (duckdb.Error, OSError)
    raise ValueError(f"{path}: this is not a database of SQLite or DuckDB.")


def _sqlite(path: Path, query: str) -> Generator[Batch]:
    connection = sqlite3.connect(f"file:{quote(str(path.resolve()))}?mode=ro", uri=True)
    try:
        connection.execute("PRAGMA query_only = 1")
        connection.text_factory = lambda data: data.decode("utf-8", "replace")
        yield from _fetched(connection.execute(query))
    finally:
        connection.close()


def _duckdb(path: Path, query: str) -> Generator[Batch]:
    import duckdb

    with duckdb.connect(str(path), read_only=True, config={"enable_external_access": "false"}) as connection:
        yield from _fetched(connection.execute(query))


def _postgres(address: str, query: str) -> Batches:
    try:
        import psycopg
    except ImportError:
        raise ValueError(
            f'{shown(address)}: PostgreSQL needs the extra `postgres`: pip install "ratchet-llm[postgres]"'
        ) from None

    def batches() -> Generator[Batch]:
        try:  # UTF-8 regardless of PGCLIENTENCODING: equal params must give equal rows
            connection = psycopg.connect(address, client_encoding="utf8")
        except psycopg.Error as error:
            raise ValueError(
                f"{shown(address)}: there is no connection: {first_line(error)}.{_advice(error)}"
            ) from None
        with connection:
            connection.read_only = True
            try:  # a server-side cursor: the whole result is never in memory
                with connection.cursor(name="ratchet") as cursor:
                    cursor.execute(query)
                    yield from _fetched(cursor)
            except psycopg.Error as error:
                if connection.broken:
                    raise ConnectionError(first_line(error)) from None
                raise

    return batches(), (psycopg.Error, OSError)


def _advice(error: Exception) -> str:
    """Return the remedy if a server wants a password, or another one."""
    return " Set PGPASSWORD, or write it to ~/.pgpass." if "password" in str(error) else ""


def _fetched(cursor: Any) -> Iterator[Batch]:
    fetch: Callable[[int], list[tuple[Any, ...]]] = cursor.fetchmany
    while batch := fetch(ROWS):
        yield [column[0] for column in cursor.description], batch
