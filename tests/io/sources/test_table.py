"""Tables are read row by row; a row that cannot be read is reported with its place."""

import polars as pl
import pytest

from tasks.io.sources.record import Broken, Row
from tasks.io.sources.table import rows


def read(tmp_path, name, data):
    path = tmp_path / name
    path.write_bytes(data)
    return list(rows(path))


def test_json_lines_are_told_by_number(tmp_path):
    data = b'\xef\xbb\xbf{"a": 1}\r\n\n{"a": \n[1]\n\xff\n{"a": 2}' + b"\n" + b"[" * 100_000
    records = read(tmp_path, "x.jsonl", data)
    assert [(type(item), item.where) for item in records] == [
        (Row, "line 1"), (Broken, "line 3"), (Broken, "line 4"), (Broken, "line 5"), (Row, "line 6"), (Broken, "line 7"),
    ]  # fmt: skip
    assert [item.reason for item in records if isinstance(item, Broken)] == [
        "not JSON",
        "not an object",
        "not UTF-8",
        "not JSON",
    ]
    assert records[0].values == {"a": 1}


def test_a_json_list_is_rows(tmp_path):
    assert read(tmp_path, "x.json", b'[{"a": 1}, 2]') == [
        Row("row 1", {"a": 1}),
        Broken("row 2", "not an object", "expected {…}, found a int", "2"),
    ]


def test_csv_keeps_what_fits_and_tells_the_lines_that_do_not(tmp_path):
    data = 'prompt,completion\nhi,"a\nb, c"\nbad,row,three\n"01",y\nonlyone\ncafé,é\n'.encode() + b"q\xff,r\nlast,one\n"
    records = read(tmp_path, "x.csv", data)
    assert [item.values for item in records if isinstance(item, Row)] == [
        {"prompt": "hi", "completion": "a\nb, c"},
        {"prompt": "01", "completion": "y"},
        {"prompt": "café", "completion": "é"},
        {"prompt": "last", "completion": "one"},
    ]
    assert [(item.reason, item.record) for item in records if isinstance(item, Broken)] == [
        ("csv: too many columns", "bad,row,three"),
        ("csv: missing columns", "onlyone"),
        ("not UTF-8", "q\ufffd,r"),
    ]


def test_parquet_keeps_nested_turns(tmp_path):
    table = [{"messages": [{"role": "user", "content": "Why?"}]}]
    pl.DataFrame(table).write_parquet(tmp_path / "x.parquet")
    assert list(rows(tmp_path / "x.parquet")) == [Row("row 1", table[0])]


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("x.json", b'{"a": 1,\n', "no JSON.*ends in .jsonl"),
        ("x.json", b"a", "not JSON: it begins with 'a'"),
        ("x.jsonl", b"\x1f\x8bgzip?", "end early or are damaged"),
        ("x.parquet", b"PAR0", "not a Parquet file"),
    ],
)
def test_a_file_that_is_not_what_its_ending_says_is_reported(tmp_path, name, data, said):
    with pytest.raises(ValueError, match=rf"{name}: .*{said}"):
        read(tmp_path, name, data)


def test_a_missing_file_is_told_with_the_section_that_names_it(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"x\.csv.*`ingest` in params.yaml"):
        list(rows(tmp_path / "x.csv"))
