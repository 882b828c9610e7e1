"""The same rows are read from every format, and what is found about a file is told."""

import bz2
import csv
import gzip
import io
import json
import lzma
import tracemalloc

import pytest

from tasks.io.sources import table
from tasks.io.sources.containers import encodings, streams
from tasks.io.sources.formats import delimited, json_document, json_lines
from tasks.io.sources.record import Broken, Row, UnreadableError
from tests.io.sources import strangers


def read(tmp_path, name, data):
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return list(table.rows(path))


def places(records):
    return [(record.where, getattr(record, "reason", "")) for record in records]


@pytest.mark.parametrize("name", strangers.FILES)
def test_rows_are_the_same_in_every_format(tmp_path, name):
    records = read(tmp_path, name, strangers.FILES[name])
    assert [record for record in records if isinstance(record, Broken)] == []
    pairs = [(record.values["prompt"], record.values["completion"]) for record in records]
    assert pairs == strangers.PAIRS
    assert len({record.where for record in records}) == 12


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("excel.csv", "CSV (semicolon), utf-16-le"),
        ("latin.csv", "CSV (comma), cp1252"),
        ("single.csv", "CSV (comma, single quotes)"),
        ("packed.jsonl.zst", "JSON lines, zstandard"),
        ("packed_twice.zip", "CSV (comma), in an archive, gzip"),
        ("pretty.json", "JSON, cp1252"),
    ],
)
def test_a_file_is_described(tmp_path, name, words):
    (tmp_path / name).write_bytes(strangers.FILES[name])
    assert table.describe(tmp_path / name) == words


@pytest.mark.parametrize(
    ("lines", "fields"),
    [
        # As Spark writes it: a backslash stands before quotes, and before anything else it is text.
        (
            ['"Say \\"hi\\", ok?","yes"', '"Halve x, please",\\frac{x}{2}'],
            ['Say "hi", ok?', "yes", "Halve x, please", "\\frac{x}{2}"],
        ),
        (['"Say \\"hi\\", ok?","C:\\\\"', '"a, b","x\\ny\\\\z"'], ['Say "hi", ok?', "C:\\", "a, b", "x\\ny\\\\z"]),
        (['"What is 1+1?", "It is 2"', '"a, b", "c"'], ["What is 1+1?", "It is 2", "a, b", "c"]),
        (['"What?", It is so', '"a",  b'], ["What?", " It is so", "a", "  b"]),
        (['"He said, ""hi""", now', '"a", b'], ['He said, "hi"', " now", "a", " b"]),
    ],
)
def test_marks_of_quoting_leave_the_text_as_it_is(tmp_path, lines, fields):
    records = read(tmp_path, "a.csv", "\n".join(["q,a", *lines]).encode())
    assert [value for record in records for value in record.values.values()] == fields


@pytest.mark.parametrize("titles", ["FAQ of the shop\n\n", "FAQ;\n;\nExported in May;\n", "FAQ, of the shop, in May\n"])
def test_the_header_of_a_delimited_file_stands_below_titles(tmp_path, monkeypatch, titles):
    lines = "".join(f"What is {n} and {n}?;It is {2 * n}, or so.\n" for n in range(20))
    records = read(tmp_path, "a.csv", f"{titles}Question;Answer\n{lines}".encode())
    first = titles.count("\n") + 2
    assert records == [
        Row(f"line {first + n}", {"Question": f"What is {n} and {n}?", "Answer": f"It is {2 * n}, or so."})
        for n in range(20)
    ]
    assert "titles" in table.describe(tmp_path / "a.csv")
    monkeypatch.setattr(delimited, "BLOCK", 100)
    blocks = table.blocks(tmp_path / "a.csv")
    assert [record for block in blocks for record in block.records(tmp_path / "a.csv")] == records


@pytest.mark.parametrize("lines", ["text\nHello, world\n", "my text\nHello, world.\n"])
def test_a_name_above_texts_with_commas_is_no_title(tmp_path, lines):
    rows = "".join(f"How are you {n} my friend, I am fine\n" for n in range(20))
    records = read(tmp_path, "a.csv", (lines + rows).encode())
    assert {record.reason for record in records} == {"csv: too many columns"}


def test_single_quotes_around_all_fields_belong_to_none(tmp_path):
    records = read(tmp_path, "a.csv", b"'q','a'\n'one is','two'\n'three is','four'\n")
    assert [record.values for record in records] == [{"q": "one is", "a": "two"}, {"q": "three is", "a": "four"}]


def test_backslashes_that_the_writer_doubled_are_single_ones(tmp_path):
    rows = [{"q": 'Is "C:\\dir" one?', "a": "\\frac{x}{2}"}, {"q": "\\\\server", "a": "C:\\"}]
    text = io.StringIO()
    writer = csv.DictWriter(text, ["q", "a"], quoting=csv.QUOTE_ALL, doublequote=False, escapechar="\\")
    writer.writeheader()
    writer.writerows(rows)
    assert [record.values for record in read(tmp_path, "a.csv", text.getvalue().encode())] == rows


def test_a_single_backslash_far_behind_doubled_ones_stays(tmp_path):
    lines = ["q,a", *['"Say \\"hi\\"","one \\\\\\\\ two"'] * 300, '"Say \\"hi\\"","\\alpha"']
    records = read(tmp_path, "a.csv", "\n".join(lines).encode())
    assert records[-1].values["a"] == "\\alpha"


@pytest.mark.parametrize(
    ("encoding", "text"),
    [
        ("cp1251", "Как дела сегодня? Хорошо, спасибо большое"),
        ("gb18030", "今天天气怎么样？很好，谢谢你"),
        ("cp932", "今日の天気はどうですか。とても良いです"),
        ("cp1250", "Jak se dnes máš? Příšerně žluťoučký kůň"),
        ("euc-kr", "오늘 날씨가 어떻습니까 매우 좋습니다"),
    ],
)
def test_text_in_the_encodings_of_other_languages(tmp_path, encoding, text):
    lines = ["q,a\n", *(f"{text} {number},{text}\n" for number in range(5))]
    records = read(tmp_path, "a.csv", "".join(lines).replace(", ", " ").encode(encoding))
    assert [record.values["a"] for record in records] == [text.replace(", ", " ")] * 5


def test_of_mixed_encodings_the_lines_in_the_other_one_are_named(tmp_path):
    lines = [*["q,a", *["é,ü"] * 3], *["caf\\xe9,x"]]
    data = "\n".join(lines[:4]).encode() + b"\ncaf\xe9,x\n"
    assert places(read(tmp_path, "a.csv", data)) == [
        ("line 2", ""), ("line 3", ""), ("line 4", ""), ("line 5", "not UTF-8"),
    ]  # fmt: skip


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress, strangers.zstandard])
def test_of_a_stream_that_ends_early_the_rows_before_are_read(tmp_path, pack):
    data = pack(b"".join(b'{"a": %d}\n' % (number * 7919 % 100_003) for number in range(120_000)))
    *rows, cut, last = read(tmp_path, "a.jsonl.packed", data[: len(data) - 2000])
    assert len(rows) > 1_000
    assert all(isinstance(record, Row) for record in rows)
    assert isinstance(cut, Broken) or last.where == f"after {cut.where}"
    assert last.reason == "damaged file"
    assert "damaged after" in last.detail


def test_a_bomb_is_cut_and_named(tmp_path, monkeypatch):
    monkeypatch.setattr(streams, "BOMB_BYTES", 1 << 16)
    line = b'{"a": "' + b"0" * 1000 + b'"}\n'
    for name, data in (
        ("a.jsonl.gz", gzip.compress(line * 2000)),
        ("a.zip", strangers.zipped({"a.jsonl": line * 2000})),
    ):
        *rows, last = read(tmp_path, name, data)
        assert "decompression bomb" in last.detail
        assert len(rows) < 2000


def test_a_line_beyond_the_limit_is_cut_and_the_next_are_read(tmp_path, monkeypatch):
    monkeypatch.setattr(encodings, "MAX_LINE", 100)
    data = b'{"a": 1}\n{"a": "' + b"x" * 300_000 + b'"}\n{"a": 3}\n'
    records = read(tmp_path, "a.jsonl", data)
    assert places(records) == [("line 1", ""), ("line 2", "line too long"), ("line 3", "")]
    assert "300,010 bytes" in records[1].detail
    assert places(read(tmp_path, "a.csv", b"q,a\n1,2\n" + b"x" * 500 + b",2\n3,4\n")) == [
        ("line 2", ""), ("line 3", "line too long"), ("line 4", ""),
    ]  # fmt: skip


LONG = 1 << 24
"""Bytes of a line, 256 times as many as are read of one."""


def rows_around(start, end, filled):
    """Write three rows, of which the second begins with `start`, goes on for `LONG` bytes and closes with `end`."""

    def write(path):
        header, row = (b"q,a\n", b"1,2\n") if ".csv" in path.name else (b"", b'{"q": 1}\n')
        body = filled * (LONG // len(filled)) if filled else bytes(LONG)
        data = header + row + start + body + end + b"\n" + row
        path.write_bytes(gzip.compress(data, 1) if path.suffix == ".gz" else data)

    return write


@pytest.mark.parametrize("name", ["a.jsonl", "a.csv", "a.jsonl.gz", "a.csv.gz"])
@pytest.mark.parametrize(
    "write", [rows_around(b"", b"", b""), rows_around(b'{"q": "', b'"}', b"x"), rows_around(b'"', b'",2', b"\\\"")],
    ids=["NUL", "letters", "quotes"],
)  # fmt: skip
def test_of_a_line_far_beyond_the_limit_no_more_than_the_limit_is_in_memory(tmp_path, monkeypatch, name, write):
    for module in (encodings, delimited, json_lines):
        monkeypatch.setattr(module, "MAX_LINE", LONG // 256)
    for module in (delimited, json_lines):
        monkeypatch.setattr(module, "BLOCK", LONG // 64)
    monkeypatch.setattr(streams, "BOMB_RATIO", LONG)
    write(tmp_path / name)
    tracemalloc.start()
    try:
        assert table.blocks(tmp_path / name) is None
        records = list(table.rows(tmp_path / name))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert [record.reason for record in records if isinstance(record, Broken)] == ["line too long"]
    assert len(records) == 3
    assert peak < LONG / 2


def test_a_packed_line_that_is_a_bomb_is_cut_and_named(tmp_path, monkeypatch):
    monkeypatch.setattr(encodings, "MAX_LINE", LONG // 256)
    monkeypatch.setattr(streams, "BOMB_BYTES", LONG // 64)
    monkeypatch.setattr(streams, "BOMB_RATIO", 10)
    rows_around(b"", b"", b"")(tmp_path / "a.jsonl.gz")
    first, line, rest = table.rows(tmp_path / "a.jsonl.gz")
    assert first == Row("line 1", {"q": 1})
    assert (line.where, line.reason) == ("line 2", "line too long")
    assert (rest.where, rest.reason) == ("after line 2", "damaged file")
    assert "decompression bomb" in rest.detail


def test_of_a_long_value_that_does_not_end_no_more_than_the_limit_is_in_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(json_document, "MAX_LINE", LONG // 16)
    (tmp_path / "a.json").write_bytes(b'[{"q": 1}, {"q": "' + b"x" * LONG)
    tracemalloc.start()
    try:
        records = list(table.rows(tmp_path / "a.json"))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert places(records) == [("row 1", ""), ("from row 2", "not JSON")]
    assert peak < LONG


def test_a_value_beyond_the_limit_ends_a_document_by_name(tmp_path, monkeypatch):
    monkeypatch.setattr(json_document, "MAX_LINE", 1000)
    monkeypatch.setattr(json_document, "BUFFER", 500)
    records = read(tmp_path, "a.json", b'[{"a": 1}, {"a": "' + b"x" * 50_000 + b'"}, {"a": 3}]')
    assert places(records) == [("row 1", ""), ("from row 2", "not JSON")]


def test_one_byte_that_is_no_utf_8_costs_a_document_its_row_alone(tmp_path):
    rows = [{"prompt": f"naïve question {n}", "completion": "é" * 3} for n in range(40)]
    data = json.dumps(rows, ensure_ascii=False).encode().replace('naïve question 5"'.encode(), b'na\xefve question 5"')
    values = [record.values["prompt"] for record in read(tmp_path, "list.json", data)]
    assert values[4] == "naïve question 4"
    assert values[39] == "naïve question 39"
    assert "\ufffd" in values[5]


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b'[{"a": 1}, {"a" 2}, {"a": 3}]', [("row 1", ""), ("row 2", "not JSON"), ("row 3", "")]),
        (b'[{"a": 1}, 2, "x", , {"a": 3}]', [("row 1", ""), ("row 2", "not an object"), ("row 3", "not an object"), ("row 4", "not JSON"), ("row 5", "")]),
        (b'[{"a": 1}, {"a": 2', [("row 1", ""), ("from row 2", "not JSON")]),
        (b'[{"a": 1}] {"b"', [("row 1", ""), ("after the document", "not JSON")]),
        (b'[{"a": 1} {"a": 2}]', [("row 1", ""), ("after row 1", "not JSON")]),
        (b'{"x": {"a": 1}, "y": {"a": }}', [("key 'x'", ""), ("after key 'x'", "not JSON")]),
        (b'{"messages": [{"role": "user"}], "id": 1}', [("row 1", "")]),
        (b'{"q": ["a", "b"], "r": ["c", "d"]}', [("row 1", ""), ("row 2", "")]),
        (b"[]", []),
    ],
)  # fmt: skip
def test_malformed_parts_of_a_document_are_named(tmp_path, data, expected):
    assert places(read(tmp_path, "a.json", data)) == expected


def test_an_id_is_kept_of_a_document_keyed_by_it(tmp_path):
    records = read(tmp_path, "a.json", b'{"x": {"prompt": "p"}, "y": {"prompt": "q", "id": 7}}')
    assert [record.values["id"] for record in records] == ["x", 7]


def test_a_quote_that_does_not_close_costs_its_line_alone(tmp_path):
    lines = ["q,a", *(f"{n},x" for n in range(50)), '51,"open', *(f"{n},y" for n in range(52, 99)), '"a"b,c']
    records = read(tmp_path, "a.csv", "\n".join(lines).encode())
    assert len(records) == len(lines) - 1
    assert places(record for record in records if isinstance(record, Broken)) == [
        ("line 52", "csv: malformed"), ("line 100", "csv: malformed"),
    ]  # fmt: skip


def test_a_table_of_4000_columns(tmp_path):
    names = [f"c{number}" for number in range(4000)]
    records = read(tmp_path, "a.csv", ("\n".join([",".join(names)] * 3)).encode())
    assert [len(record.values) for record in records] == [4000, 4000]


def test_a_damaged_parquet_is_named_and_what_is_whole_is_read(tmp_path, monkeypatch):
    data = bytearray(strangers.parquet([{"a": "x" * 50 + str(number)} for number in range(100)]))
    data[20:40] = b"\xff" * 20
    records = read(tmp_path, "a.parquet", bytes(data))
    assert places(records[-1:])[0][1] == "damaged file"


@pytest.mark.parametrize(
    "data", [b"", b"PK\x05\x06" + b"\x00" * 18, b"\x89PNG\r\n\x1a\n\x00\x00", b"# A text\n\nIt is prose, of course.\n"]
)
def test_what_is_no_table_is_refused_by_name(tmp_path, data):
    try:
        records = read(tmp_path, "thing", data)
    except UnreadableError as error:
        assert "thing: no table" in str(error)  # noqa: PT017
    else:
        assert [record for record in records if isinstance(record, Row)] == []


def test_zeros_in_a_line_cost_that_line_alone(tmp_path):
    records = read(tmp_path, "a.jsonl", b'{"a": 1}\n\x00\x00\n{"a": "\x00"}\n{"a": 4}\n')
    assert places(records) == [("line 1", ""), ("line 2", "not JSON"), ("line 3", "not JSON"), ("line 4", "")]


def test_an_article_with_questions_to_its_paragraphs_is_a_row_for_each_question(tmp_path):
    questions = [
        {"id": f"q{n}", "question": f"Why {n}?", "answers": [{"text": "So.", "answer_start": 0}]} for n in range(3)
    ]
    paragraphs = [{"context": "So.", "qas": questions[:2]}, {"context": "No.", "qas": questions[2:]}]
    document = {"version": "2", "data": [{"title": "It", "paragraphs": paragraphs}]}
    rows = read(tmp_path, "dev.json", json.dumps(document).encode())
    assert [row.where for row in rows] == [
        "data, row 1, paragraph 1, question 1",
        "data, row 1, paragraph 1, question 2",
        "data, row 1, paragraph 2, question 1",
    ]
    assert rows[2].values == {"title": "It", "context": "No."} | questions[2]
    article = {"title": "It", "paragraphs": ["One.", "Two."]}
    assert read(tmp_path, "a.json", json.dumps([article]).encode())[0].values == article


def test_an_answer_of_the_data_set_viewer_is_the_table_in_it(tmp_path):
    rows = [{"row_idx": n, "row": {"question": f"{n}?", "answer": "yes"}, "truncated_cells": []} for n in range(3)]
    document = {"features": [{"name": "question"}, {"name": "answer"}], "rows": rows, "num_rows_total": 3}
    (tmp_path / "a.json").write_text(json.dumps(document))
    assert [record.values for record in table.rows(tmp_path / "a.json")] == [row["row"] for row in rows]
    (tmp_path / "b.json").write_text(json.dumps({"features": [{"name": "a"}], "rows": [{"a": 1}]}))
    assert [record.values for record in table.rows(tmp_path / "b.json")] == [{"a": 1}]


TURN = {"role": "user", "content": "q"}


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        ({"train": [{"q": 1}, {"q": 2}], "test": [{"q": 3, "a": 4}]}, [{"split": "train", "q": 1}, {"split": "train", "q": 2}, {"split": "test", "q": 3, "a": 4}]),
        ({"one": [{"q": 1, "a": 2}], "{other}": [{"q": 3, "a": 4}], "n": 2}, [{"q": 1, "a": 2}, {"q": 3, "a": 4}]),
        ({"data": {"tickets": [{"q": 1}, {"q": 2}], "n": 2}}, [{"q": 1}, {"q": 2}]),
        ({"faq": {"one": [{"q": 1, "a": 2}], "other": [{"q": 3, "a": 4}]}}, [{"q": 1, "a": 2}, {"q": 3, "a": 4}]),
    ],
)  # fmt: skip
def test_the_tables_of_a_document_are_read_row_by_row(tmp_path, document, expected):
    """They were one record, of which a guess made one conversation of one of the tables."""
    records = read(tmp_path, "a.json", json.dumps(document, indent=1).encode())
    assert [record.values for record in records] == expected
    assert len({record.where for record in records}) == len(records)


@pytest.mark.parametrize(
    "record",
    [
        {"messages": [TURN], "tools": [{"name": "f"}]},
        {"prompt": "p", "chosen": [TURN], "rejected": [TURN]},
        {"questions": [{"id": 1, "text": "q"}], "answers": [{"id": 1, "text": "a", "of": 1}]},
    ],
)
def test_the_lists_of_one_record_are_no_tables(tmp_path, record):
    (read_one,) = read(tmp_path, "a.json", json.dumps(record, indent=1).encode())
    assert read_one.values == record
