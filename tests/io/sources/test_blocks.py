"""Blocks of a file, each read on its own, hold the records that a reader from its beginning finds, whatever their size."""

import io
import tempfile
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.io.sources import table
from tasks.io.sources.containers import encodings
from tasks.io.sources.formats import columnar, delimited, json_lines
from tasks.io.sources.record import Broken, Row

FIELDS = st.sampled_from(
    ["a", "b c", "", '"q"', '"two\nlines"', '"a ""b"" c"', '"open', 'x"y', '"a"b', "é\u2028", "\r", "\\", '\\"']
)
TEXTS = st.tuples(
    st.sampled_from([",", ";", "\t"]),
    st.lists(st.lists(FIELDS, min_size=1, max_size=3), max_size=12),
    st.sampled_from(["\n", "\r\n", "\n\n"]),
).map(lambda drawn: drawn[2].join(drawn[0].join(row) for row in [["q", "a"], *drawn[1]]))


def of_blocks(path):
    """The records of all blocks, and the number of blocks."""
    cut = table.blocks(path)
    return [record for block in cut for record in block.records(path)], len(cut)


@pytest.fixture
def small(monkeypatch):
    """Blocks of so many bytes."""

    def of(size):
        for module in (json_lines, delimited, columnar):
            monkeypatch.setattr(module, "BLOCK", size)

    return of


@settings(max_examples=80, deadline=None)
@given(TEXTS, st.sampled_from([1, 10, 40, 1 << 20]), st.sampled_from([3, 5_000]))
def test_blocks_of_a_delimited_file_part_records_as_its_reader_does(text, size, longest):
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(delimited, "BLOCK", size)
        patch.setattr(delimited, "MAX_RECORD_LINES", longest)
        path = Path(folder) / "a.csv"
        path.write_bytes(text.encode())
        if table.blocks(path) is not None:  # a file with ends of line of old Macs is one part
            assert of_blocks(path)[0] == list(table.rows(path))


def test_a_delimited_file_is_cut_where_records_end(tmp_path, small):
    small(30)
    path = tmp_path / "a.csv"
    rows = "".join(f'{n},"answer {n},\nof two lines"\n' for n in range(9))
    path.write_text(f"q,a\n{rows}")
    records, num_blocks = of_blocks(path)
    assert num_blocks > 4
    assert records == [Row(f"line {2 * n + 2}", {"q": str(n), "a": f"answer {n},\nof two lines"}) for n in range(9)]


def test_a_quote_that_never_closes_costs_its_line_in_blocks_too(tmp_path, small, monkeypatch):
    small(64)
    monkeypatch.setattr(delimited, "MAX_RECORD_LINES", 5)
    path = tmp_path / "a.csv"
    path.write_text(
        "q,a\n" + "".join(f"{n},x\n" for n in range(20)) + '20,"open\n' + "".join(f"{n},x\n" for n in range(21, 60))
    )
    records, num_blocks = of_blocks(path)
    assert num_blocks > 3
    assert records == list(table.rows(path))
    assert [record.where for record in records if isinstance(record, Broken)] == ["line 22"]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-8-sig", "cp1252"])
def test_a_delimited_file_that_is_no_plain_utf_8_is_not_cut(tmp_path, small, encoding):
    small(1)
    path = tmp_path / "a.csv"
    path.write_bytes("".join(f"é {n};ü\n" for n in range(5)).encode(encoding))
    assert table.blocks(path) is None


def test_a_line_that_is_too_long_leaves_a_file_with_quotes_whole(tmp_path, small, monkeypatch):
    small(8)
    monkeypatch.setattr(encodings, "MAX_LINE", 50)
    monkeypatch.setattr(delimited, "MAX_LINE", 50)
    path = tmp_path / "a.csv"
    path.write_text('q,a\n"1",2\n' + "x" * 80 + ",2\n3,4\n")
    assert table.blocks(path) is None
    assert [record.where for record in table.rows(path)] == ["line 2", "line 3", "line 4"]


def test_packed_files_are_not_cut(tmp_path):
    import gzip

    path = tmp_path / "a.csv.gz"
    path.write_bytes(gzip.compress(b"q,a\n1,2\n"))
    assert table.blocks(path) is None


@pytest.fixture
def parquet(tmp_path):
    """A file of ten row groups of ten rows."""
    path = tmp_path / "a.parquet"
    frame = pl.DataFrame({"n": range(100), "text": [f"text {n}" for n in range(100)]})
    frame.write_parquet(path, row_group_size=10, compression="uncompressed")
    return path


@pytest.mark.parametrize(("size", "number"), [(1, 10), (400, 5), (1 << 20, 1)])
def test_blocks_of_a_parquet_file_are_row_groups(parquet, small, size, number):
    small(size)
    records, num_blocks = of_blocks(parquet)
    assert (
        records == list(table.rows(parquet)) == [Row(f"row {n + 1}", {"n": n, "text": f"text {n}"}) for n in range(100)]
    )
    assert num_blocks == pytest.approx(number, abs=2)


def test_a_damaged_row_group_costs_no_other_one(parquet, small):
    small(1)
    data = bytearray(parquet.read_bytes())
    place = data.index(b"text 35") - 60
    data[place : place + 80] = b"\xff" * 80
    parquet.write_bytes(data)
    records, _ = of_blocks(parquet)
    assert records == list(table.rows(parquet))
    (broken,) = (record for record in records if isinstance(record, Broken))
    assert (broken.where, broken.reason) == ("from rows 31 to 40", "damaged file")
    assert len(records) == 91


def test_a_parquet_file_that_changes_while_it_is_read_is_an_error(parquet):
    (block,) = table.blocks(parquet)
    pl.DataFrame({"n": [1]}).write_parquet(parquet)
    with pytest.raises(ValueError, match="has changed while it was read"):
        list(block.records(parquet))


def test_rows_that_are_promised_and_missing_are_named():
    frame = pl.DataFrame({"n": [1, 2]})
    data = io.BytesIO()
    frame.write_ipc_stream(data)
    import pyarrow as pa

    batches = pa.ipc.open_stream(data.getvalue())
    records = list(columnar._rows(iter(batches), 10, 15))
    assert [record.where for record in records] == ["row 11", "row 12", "from rows 13 to 15"]


@pytest.mark.parametrize("change", [lambda data: data[:-8], lambda data: data + data[-80:]])
def test_an_arrow_stream_that_does_not_end_with_its_mark_is_named(tmp_path, change):
    data, path = io.BytesIO(), tmp_path / "a.arrow"
    pl.DataFrame({"n": [1, 2]}).write_ipc_stream(data)
    path.write_bytes(data.getvalue())
    assert len(list(table.rows(path))) == 2
    path.write_bytes(change(data.getvalue()))
    *rows, last = table.rows(path)
    assert [record.values for record in rows] == [{"n": 1}, {"n": 2}]
    assert (last.where, last.reason) == ("from row 3", "damaged file")


NUMBERS = st.sampled_from(
    [
        "0",
        "-0",
        "1.5",
        "1e5",
        "1e999",
        "NaN",
        "18446744073709551616",
        "-9223372036854775809",
        "9" * 25,
        "[9223372036854775808123]",
    ]
)
VALUES = NUMBERS | st.sampled_from(
    ["null", "true", '"x"', '"\\ud800"', '"\\u0000"', '{"b": 12345678901234567890123}', '"é"', "tru", ""]
)
OBJECTS = st.lists(st.tuples(st.sampled_from("abc"), VALUES), max_size=3).map(
    lambda pairs: "{" + ", ".join(f'"{name}": {value}' for name, value in pairs) + "}"
)


@settings(max_examples=50, deadline=None)
@given(
    st.lists(OBJECTS | st.sampled_from(["", " ", "\x0c", "[1]", "1", "{", "null", "{}\r"]), max_size=8),
    st.sampled_from([1, 30, 1 << 20]),
)
def test_blocks_of_json_lines_are_read_as_the_whole_file_is(lines, size):
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_lines, "BLOCK", size)
        path = Path(folder) / "a.jsonl"
        path.write_text("\n".join(["{}", *lines]), encoding="utf-8")
        assert repr(of_blocks(path)[0]) == repr(list(table.rows(path)))  # NaN is not itself
