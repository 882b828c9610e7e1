"""Equal rows are equal bytes, and a table that does not fit its record says where."""

import dataclasses

import polars as pl
import pytest

from tasks.core.records import Document, Example, Message, Refusal, Result, Tests
from tasks.io import tables
from tests import tiny

ROWS = {
    Example: [
        tiny.example(1, response="é\n\t\x00"),
        tiny.example(
            2,
            tests=Tests("doctest", ">>> f()\n1", "f", prelude="import re\n"),
            tier="short",
            weights=[0.0, 1.5],
            parents=["a", "b"],
            round=3,
        ),
        tiny.example(3, messages=[Message("system", ""), Message("assistant", "x")], weights=[], parents=[]),
    ],
    Document: [Document("d", "text", "domain", "g", "valid", "s", "MIT")],
    Refusal: [Refusal("s", "line 3", "no JSON", "found x", "x")],
    Result: [
        Result("domain", "d", "g", None, 1.25, 3, 9, "", ""),
        Result("pass@1", "e", "g", "long", 0.0, 1, 1, "timed out", "```\n", inside=True),
    ],
}


@pytest.mark.parametrize("record", ROWS, ids=lambda record: record.__name__)
@pytest.mark.parametrize("empty", [False, True], ids=["rows", "no-rows"])
def test_rows_come_back_as_they_went(tmp_path, record, empty):
    rows = [] if empty else ROWS[record]
    tables.write(tmp_path / "new" / "t.parquet", rows, record)
    assert tables.read(tmp_path / "new" / "t.parquet", record) == rows


@pytest.mark.parametrize("first", [0, 1, 7, 19, 20, 23])
def test_a_stream_has_the_rows_from_any_place_on(tmp_path, monkeypatch, first):
    monkeypatch.setattr(tables, "ROWS_PER_GROUP", 10)
    monkeypatch.setattr(tables, "ROWS_AT_ONCE", 3)
    rows = [tiny.example(number) for number in range(23)]
    tables.write(tmp_path / "t.parquet", rows, Example)
    assert list(tables.stream(tmp_path / "t.parquet", Example, first)) == rows[first:]


def test_a_stream_of_what_is_no_table_says_so(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no table of Example"):
        next(tables.stream(tmp_path / "t.parquet", Example))
    (tmp_path / "t.parquet").write_text("no Parquet")
    with pytest.raises(ValueError, match="is not a Parquet file"):
        next(tables.stream(tmp_path / "t.parquet", Example))
    tables.write(tmp_path / "t.parquet", ROWS[Document], Document)
    with pytest.raises(ValueError, match=r"column 'messages' is missing"):
        next(tables.stream(tmp_path / "t.parquet", Example))


@pytest.mark.parametrize("record", ROWS, ids=lambda record: record.__name__)
def test_equal_rows_are_equal_bytes(tmp_path, record):
    tables.write(tmp_path / "a.parquet", ROWS[record], record)
    tables.write(tmp_path / "b.parquet", (dataclasses.replace(row) for row in ROWS[record]), record)
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()


def test_the_order_of_rows_is_kept(tmp_path):
    rows = [tiny.example(number) for number in (3, 1, 2)]
    tables.write(tmp_path / "t.parquet", rows, Example)
    assert [row.id for row in tables.read(tmp_path / "t.parquet", Example)] == [row.id for row in rows]


def test_nothing_but_the_table_is_left(tmp_path):
    tables.write(tmp_path / "t.parquet", ROWS[Result], Result)
    assert [path.name for path in tmp_path.iterdir()] == ["t.parquet"]


def test_a_table_that_could_not_be_written_leaves_the_old_one(tmp_path):
    tables.write(tmp_path / "t.parquet", ROWS[Document], Document)
    before = (tmp_path / "t.parquet").read_bytes()
    wrong = dataclasses.replace(ROWS[Document][0], text=None)
    with pytest.raises(ValueError, match=r"t\.parquet.*column 'text' is empty in row 0"):
        tables.write(tmp_path / "t.parquet", [wrong], Document)
    assert (tmp_path / "t.parquet").read_bytes() == before


def test_a_missing_table_says_what_makes_it(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"gone\.parquet: there is no table of Document here.*ratchet run"):
        tables.read(tmp_path / "gone.parquet", Document)


def test_every_misfit_of_a_table_is_named_at_once(tmp_path):
    tables.write(tmp_path / "t.parquet", ROWS[Document], Document)
    frame = pl.read_parquet(tmp_path / "t.parquet").drop("license").with_columns(extra=1, text=7)
    frame.write_parquet(tmp_path / "t.parquet")
    with pytest.raises(ValueError, match="no table of Document") as caught:
        tables.read(tmp_path / "t.parquet", Document)
    message = str(caught.value)
    assert str(tmp_path / "t.parquet") in message
    assert "column 'license' is missing" in message
    assert "column 'extra' is unknown" in message
    assert "column 'text' holds Int32, not String" in message


def test_a_table_that_is_older_than_a_column_reads_as_that_columns_default(tmp_path):
    tables.write(tmp_path / "t.parquet", ROWS[Result], Result)
    pl.read_parquet(tmp_path / "t.parquet").drop("inside").write_parquet(tmp_path / "t.parquet")
    assert tables.read(tmp_path / "t.parquet", Result) == [
        dataclasses.replace(row, inside=False) for row in ROWS[Result]
    ]


def test_an_empty_required_value_names_its_column_and_row(tmp_path):
    rows = pl.DataFrame([dataclasses.asdict(ROWS[Document][0])] * 3, schema=tables.schema(Document))
    rows.with_columns(text=pl.Series(["a", "b", None])).write_parquet(tmp_path / "t.parquet")
    with pytest.raises(ValueError, match=r"column 'text' is empty in row 2"):
        tables.read(tmp_path / "t.parquet", Document)


def test_an_empty_optional_value_is_none(tmp_path):
    tables.write(tmp_path / "t.parquet", [tiny.example()], Example)
    (row,) = tables.read(tmp_path / "t.parquet", Example)
    assert (row.tests, row.tier, row.weights) == (None, None, None)


def test_a_file_that_is_no_parquet_is_named(tmp_path):
    (tmp_path / "t.parquet").write_text("id,text\n")
    with pytest.raises(ValueError, match=r"t\.parquet is not a Parquet file"):
        tables.read(tmp_path / "t.parquet", Document)
