"""A query to a PostgreSQL server that runs here. Skipped where the server's programs or psycopg are not installed."""

import os
import tempfile
from pathlib import Path

import pytest

from benchmarks import servers
from flows.project import data_import
from tasks.io.sources import databases
from tests.stages.ingest.running import contents, examples_of, ingest

psycopg = pytest.importorskip("psycopg")
BIN = servers.programs()
pytestmark = pytest.mark.skipif(BIN is None, reason="PostgreSQL's programs are not installed")

ROWS = 1_500
QUERY = "SELECT prompt, completion FROM chats ORDER BY id"
DIES = f"SELECT prompt, completion, CASE WHEN id = {ROWS} THEN pg_terminate_backend(pg_backend_pid()) END AS x FROM chats ORDER BY id"
"""The server ends the connection when it makes the last row; the first thousand were sent."""
TABLE = """
CREATE TABLE chats (id INTEGER PRIMARY KEY, prompt TEXT, completion TEXT, at TIMESTAMPTZ, about JSONB, price NUMERIC, raw BYTEA, tags TEXT[]);
INSERT INTO chats SELECT n, 'Was ist die Wurzel von ' || n * n || '?', 'Es ist ' || n || ', née „' || repeat(chr(97 + n % 26), n % 7 + 9)
    || '“.', now(), '{"by": [1]}', 1.50, '\\x00ff', '{a,b}' FROM generate_series(1, 1500) n;
CREATE ROLE reader LOGIN PASSWORD 'planted-reader-5521';
GRANT SELECT ON chats TO reader;
ALTER DATABASE postgres SET enable_sort = off;
"""


@pytest.fixture(scope="module")
def server():
    """The address of a server as its owner, who may write, by its socket."""
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        Path(folder).chmod(0o755)
        user = "nobody" if os.getuid() == 0 else None
        with servers.postgres(Path(folder), BIN, user, names=()) as place:
            patch.setenv("PGPASSWORD", servers.PASSWORD)
            address = f"postgresql://ratchet@/postgres?host={folder}&port={place.rpartition(':')[2]}"
            with psycopg.connect(address, autocommit=True) as connection:
                connection.execute(TABLE)
            yield address


def source(address, query=QUERY):
    return {"from": "query", "database": address, "query": query, "domain": "roots"}


def test_the_stage_reads_a_query_and_other_columns_of_any_type_do_no_harm(server, tmp_path):
    _, report = ingest(tmp_path, [source(server)], "some")
    _, all_columns = ingest(tmp_path, [source(server, "SELECT * FROM chats ORDER BY id")], "all")
    examples = [example for split in examples_of(tmp_path, "some").values() for example in split]
    assert len(examples) == ROWS
    assert {example.messages[0].content for example in examples} == {
        f"Was ist die Wurzel von {n * n}?" for n in range(1, ROWS + 1)
    }
    assert [*report["sources"]] == [*all_columns["sources"]] == ["query postgresql://localhost/postgres"]
    assert contents(tmp_path / "some") == contents(tmp_path / "all")


def test_a_query_without_a_row_is_named(server, tmp_path):
    with pytest.raises(
        ValueError, match=r"1 no records\. The first: query postgresql://localhost/postgres, the query: .*gives no row"
    ) as error:
        ingest(tmp_path, [source(server, "SELECT prompt, completion FROM chats WHERE id < 0 ORDER BY id")])
    assert not (tmp_path / "out/examples.parquet").exists()
    assert servers.PASSWORD not in str(error.value)


def test_a_server_that_goes_away_leaves_nothing_half_read(server, tmp_path):
    with pytest.raises(
        ConnectionError, match=r"^postgresql://localhost/postgres: the database went away after row 1000: "
    ):
        ingest(tmp_path, [source(server, DIES)])
    assert not (tmp_path / "out/examples.parquet").exists()
    ingest(tmp_path, [source(server)])  # it is there again
    assert sum(map(len, examples_of(tmp_path).values())) == ROWS


def test_a_row_that_the_server_cannot_make_is_no_server_that_went_away(server):
    records = databases.rows(server, f"SELECT 1 / (id - {ROWS}) AS prompt FROM chats ORDER BY id")
    with pytest.raises(
        ValueError, match=r"^postgresql://localhost/postgres: the query failed after row 1000: division by zero$"
    ):
        list(records)


@pytest.mark.parametrize("word", [None, "planted-wrong-7741"])
def test_a_wrong_password_is_told_with_what_would_do_and_not_shown(server, monkeypatch, word):
    monkeypatch.setenv("PGPASSWORD", word) if word else monkeypatch.delenv("PGPASSWORD")
    with pytest.raises(
        ValueError, match=r"there is no connection: .* Set PGPASSWORD, or write it to ~/\.pgpass\.$"
    ) as error:
        list(databases.rows(server.replace("ratchet@", "reader@"), QUERY))
    assert "planted" not in str(error.value)
    monkeypatch.setenv("PGPASSWORD", "planted-reader-5521")
    assert len(list(databases.rows(server.replace("ratchet@", "reader@"), QUERY))) == ROWS


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("SELECT nothing FROM chats", 'the query failed: column "nothing" does not exist'),
        ("DELETE FROM chats", "the query failed: "),
        ("WITH gone AS (DELETE FROM chats RETURNING *) SELECT * FROM gone", "the query failed: "),
        ("SELECT 1; DROP TABLE chats", "the query failed: "),
        ("COPY chats TO PROGRAM 'true'", "the query failed: "),
        ("SELECT prompt, prompt FROM chats", "two columns the name 'prompt'. Name each"),
    ],
)
def test_what_is_no_query_or_writes_is_refused(server, query, message):
    with pytest.raises(ValueError, match="postgresql://localhost/postgres: ") as error:
        list(databases.rows(server, query))
    assert message in str(error.value)
    assert len(list(databases.rows(server, QUERY))) == ROWS


def test_text_is_utf_8_whatever_the_environment_says(server, monkeypatch):
    monkeypatch.setenv("PGCLIENTENCODING", "LATIN1")
    (row,) = databases.rows(server, "SELECT 'łódź' AS prompt")
    assert row.values == {"prompt": "łódź"}


def test_init_names_the_tables_and_where_nobody_listens(server):
    with pytest.raises(ValueError, match=r"has the tables chats\. .*\n  --query"):
        data_import.detect_on_server(server, None)
    with pytest.raises(ValueError, match=r"^postgresql://127\.0\.0\.1/db: there is no connection: .*refused"):
        data_import.detect_on_server(f"postgresql://me@127.0.0.1:{servers.free_port()}/db", None)
