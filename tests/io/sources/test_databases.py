"""Rows of a query are read in its order; a database that cannot be read, or goes away, is named."""

import sqlite3
import sys
from contextlib import closing, contextmanager
from types import SimpleNamespace

import duckdb
import pytest

from tasks.io.sources import databases
from tasks.io.sources.record import Broken, Row

QUERY = "SELECT prompt, completion FROM chats ORDER BY id"


@pytest.fixture(params=["sqlite", "duckdb"])
def database(request, tmp_path):
    path = tmp_path / f"a.{request.param}"
    connection = sqlite3.connect(path) if request.param == "sqlite" else duckdb.connect(str(path))
    connection.execute("CREATE TABLE chats (id INTEGER, prompt TEXT, completion TEXT)")
    connection.executemany(
        "INSERT INTO chats VALUES (?, ?, ?)", [(n, f"What is {n}?", str(n)) for n in range(3, 0, -1)]
    )
    connection.commit()
    connection.close()
    return path


def test_rows_of_a_query(database):
    assert list(databases.rows(str(database), QUERY)) == [
        Row(f"row {n}", {"prompt": f"What is {n}?", "completion": str(n)}) for n in (1, 2, 3)
    ]
    assert databases.tables(str(database)) == ["chats"]


def test_two_columns_of_one_name_are_refused_since_one_would_be_lost(database):
    query = "SELECT a.completion, b.completion FROM chats a JOIN chats b ON a.id = b.id ORDER BY a.id"
    with pytest.raises(
        ValueError, match=r"two columns the name 'completion'\. Name each: SELECT a\.completion AS prompt"
    ):
        list(databases.rows(str(database), query))


@pytest.mark.parametrize("query", ["SELECT nothing FROM chats", "DELETE FROM chats", "DROP TABLE chats", "SELEC"])
def test_a_query_that_fails_or_writes_is_refused(database, query):
    before = database.read_bytes()
    with pytest.raises(ValueError, match=rf"{database.name}: the query failed"):
        list(databases.rows(str(database), query))
    assert database.read_bytes() == before


def test_a_duckdb_query_reaches_no_other_file(tmp_path):
    duckdb.connect(str(tmp_path / "a.duckdb")).close()
    (tmp_path / "secret.csv").write_text("a\n1\n")
    with pytest.raises(ValueError, match="the query failed"):
        list(databases.rows(str(tmp_path / "a.duckdb"), f"SELECT * FROM read_csv('{tmp_path}/secret.csv')"))


def test_a_file_that_cannot_be_read_further_on_is_named_after_its_last_row(tmp_path):
    path = tmp_path / "a.sqlite"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE t (a TEXT)")
    connection.executemany("INSERT INTO t VALUES (?)", [("x" * 400,) for _ in range(5000)])
    connection.commit()
    connection.close()
    records = databases.rows(str(path), "SELECT a FROM t ORDER BY rowid")
    first = next(records)
    data = bytearray(path.read_bytes())
    data[len(data) // 2 :] = b"\xff" * (len(data) - len(data) // 2)
    path.write_bytes(data)
    *_, last = records
    assert isinstance(first, Row)
    assert isinstance(last, Broken)
    assert last.reason == "database went away"
    assert last.where.startswith("after row ")


def test_a_server_that_goes_away_ends_the_reading_so_that_no_part_passes_for_the_whole(monkeypatch):
    def batches():
        yield ["prompt"], [("a",), ("b",)]
        raise ConnectionError("server closed the connection unexpectedly\n\tThis probably means …")

    monkeypatch.setattr(databases, "_postgres", lambda address, query: (batches(), (OSError,)))
    records = databases.rows("postgresql://me:secret@host/db", QUERY)
    assert [next(records).where, next(records).where] == ["row 1", "row 2"]
    with pytest.raises(
        ConnectionError,
        match=r"^postgresql://host/db: .* after row 2: server closed the connection unexpectedly\. Run it",
    ):
        next(records)


def test_what_is_no_database_is_refused(tmp_path):
    (tmp_path / "a.db").write_bytes(b"text")
    with pytest.raises(ValueError, match=r"a\.db: this is not a database"):
        list(databases.rows(str(tmp_path / "a.db"), QUERY))
    with pytest.raises(FileNotFoundError, match="no such database"):
        list(databases.rows(str(tmp_path / "b.db"), QUERY))


@pytest.mark.parametrize("password", ["secret", "sec/ret", "s#c?ret"])
def test_postgres_without_its_driver_names_the_extra_and_no_password(monkeypatch, password):
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(ValueError, match=r"^postgresql://host/db: .*ratchet-llm\[postgres\]"):
        list(databases.rows(f"postgresql://me:{password}@host/db", QUERY))


class Connection(SimpleNamespace):
    """A connection that a `with` closes."""

    def __enter__(self):
        return self

    def __exit__(self, *error):
        return False


class Server:
    """`psycopg` over a file of SQLite: a connection that reads alone, cursors of the server, and addresses that are kept."""

    Error = sqlite3.Error

    def __init__(self, path):
        self.path, self.addresses, self.fetched = path, [], []

    def connect(self, address, client_encoding):
        assert client_encoding == "utf8"
        self.addresses.append(address)
        connection = Connection(read_only=None, broken=False)
        connection.cursor = lambda name: self._cursor(connection, name)
        return connection

    @contextmanager
    def _cursor(self, connection, name):
        assert connection.read_only
        assert name  # else the client holds the whole result
        with closing(sqlite3.connect(self.path)) as file:
            cursor = file.cursor()
            fetch = lambda number: self.fetched.append(number) or cursor.fetchmany(number)  # noqa: E731
            yield SimpleNamespace(
                execute=cursor.execute, fetchmany=fetch, description=[("prompt",), ("completion",)]
            )  # fmt: skip


def test_rows_of_postgresql_come_by_a_cursor_of_the_server(tmp_path, monkeypatch):
    path = tmp_path / "a.sqlite"
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE chats (id INTEGER, prompt TEXT, completion TEXT)")
        connection.executemany(
            "INSERT INTO chats VALUES (?, ?, ?)", [(n, f"{n}?", str(n)) for n in range(2_500, 0, -1)]
        )
    server = Server(path)
    monkeypatch.setitem(sys.modules, "psycopg", server)
    rows = list(databases.rows("postgresql://me@host/db", QUERY))
    assert rows == [Row(f"row {n}", {"prompt": f"{n}?", "completion": str(n)}) for n in range(1, 2_501)]
    assert (server.addresses, server.fetched) == (["postgresql://me@host/db"], [1_000] * 4)
    with pytest.raises(ValueError, match=r"^postgresql://host/db: the query failed: no such table: gone"):
        list(databases.rows("postgresql://me@host/db", "SELECT a FROM gone ORDER BY a"))
