"""Damage to a file of any format is a record or a refusal: none ends in a traceback, and nothing is passed over in silence.

`python benchmarks/malformed.py files` does the same with 1,000 files of each format, `… lines` with 100,000 malformed records.
"""

import json
import os

import pytest

from benchmarks import malformed
from tasks.core.records import Refusal
from tasks.stages.ingest.shards.collection import empty_files, refusals
from tests.stages.ingest.running import ingest, write_rows
from tests.stages.ingest.shards.test_parts_of_tables import reader

FILES = 6


@pytest.mark.parametrize("name", malformed.READERS)
def test_damaged_files_are_read_or_named(name):
    counts = malformed.measure_files(name, FILES * malformed.ROWS, seed=1)
    assert counts.files == FILES
    assert counts.read == counts.kept + counts.refused
    assert counts.named + counts.fewer <= FILES
    assert counts.named > 0


def test_each_malformed_record_of_each_format_is_kept_or_refused():
    counts = {name: counts for name, counts, _ in malformed.measure_lines(120)}
    assert set(malformed.TABLES) - set(counts) == {
        "keyed.json",
        "plain.parquet",  # other files of formats that are there
        "rows.xls",  # of 65,536 rows at most
    }
    assert all(count.refused >= 80 for count in counts.values())
    assert {name for name, count in counts.items() if count.kept} == {
        "rows.xlsb", "rows.xlsx", "rows.ods", "rows.parquet", "rows.arrow", "stream.arrow", "rows.sqlite", "rows.duckdb", "data set on disk",
    }  # fmt: skip


def test_a_file_that_is_passed_over_would_be_noticed():
    from collections import Counter

    with pytest.raises(AssertionError, match=r"b\.csv: lost"):
        malformed._counted(["a.csv", "b.csv"], Counter({"a.csv": 1}), Counter({"a.csv": 1}), Counter(), 1)


@pytest.mark.parametrize(("name", "text"), [("a.jsonl", "\n\n"), ("a.csv", "prompt,completion\n"), ("a.json", "[]")])
def test_a_file_without_a_record_is_named(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    read, parts = reader(tmp_path / name, tmp_path)
    _, summaries = read.read(parts)
    assert [summary.read for summary in summaries] == [{}]
    assert empty_files(parts, {}) == [Refusal(f"file {name}", "the file", "no records", "it has no record", "")]


def test_names_and_calls_that_are_no_utf_8_are_escaped_or_refused(tmp_path):
    folder = tmp_path / "raw" / "rows"
    folder.mkdir(parents=True)
    name = os.fsdecode(b"gr\xf6\xdfe.jsonl")
    write_rows(folder / name, "leaf", 30)
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": '{"a": "\ud800"}'}}
    turns = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "", "tool_calls": [call]}]
    turns += [{"role": "tool", "content": "1"}, {"role": "assistant", "content": "It is 1."}]
    (folder / "calls.jsonl").write_text(json.dumps({"messages": turns}) + "\n")
    _, report = ingest(tmp_path, [{"from": "file", "path": folder}])
    assert report["sources"]["file rows/gr\\xf6\\xdfe.jsonl"]["kept"] == 30
    assert report["sources"]["file rows/calls.jsonl"]["refused"] == {"broken characters": 1}


@pytest.mark.parametrize("name", ["a.tar", "a.tar.gz", "a.zip"])
def test_an_archive_of_which_text_alone_is_left_is_no_text_but_named(tmp_path, name):
    (tmp_path / "rows").mkdir()
    (tmp_path / "rows" / name).write_text('."}\n{"prompt": "What is 18 times 18?", "completion": "It is 324."}\n')
    read, parts = reader(tmp_path / "rows", tmp_path)
    shards, summaries = read.read(parts)
    assert [summary.read for summary in summaries] == [{f"file rows/{name}": 1}]
    (detail,) = refusals(shards).collect()["detail"]
    assert detail.endswith(f"{name}: no table: this is text.")
