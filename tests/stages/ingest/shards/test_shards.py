"""Sources are read in parts: the same rows whatever the parts, nothing twice, and nothing half written."""

import json
import tempfile
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.core.records import Example, Refusal
from tasks.io import tables
from tasks.io.sources.formats import json_lines
from tasks.io.system import files, locks
from tasks.io.system import workers as system_workers
from tasks.io.system.workers import Workers
from tasks.stages.ingest.config import File, IngestConfig
from tasks.stages.ingest.reading.examples import read_rows
from tasks.stages.ingest.shards import collection
from tasks.stages.ingest.shards.collection import Reader, Shards, num_read, refusals
from tasks.stages.ingest.shards.parts import parts_of
from tests.stages.ingest.running import contents, examples_of, write_rows
from tests.support import ScratchRun

TEXTS = st.sampled_from([
    "What?", "  Why\tso?\r\n ", "", " ", "Café e\u0301", "\ud800", "日本", "a\u00a0b", "<tool_call>{}</tool_call>", "[1]", "x\u2028y",
]) | st.text(max_size=6)  # fmt: skip
VALUES = TEXTS | st.none() | st.integers() | st.lists(TEXTS, max_size=2)
NAMES = st.sampled_from(
    [
        "prompt",
        "completion",
        "response",
        "question",
        "answer",
        "instruction",
        "input",
        "output",
        "system",
        "tools",
        "label",
        "kto_tag",
        "chosen",
        "rejected",
        "messages",
        "id",
        "correct",
    ]
)
PLAIN = st.fixed_dictionaries(
    {"prompt": TEXTS, "completion": TEXTS}, optional={"input": TEXTS, "context": TEXTS, "id": st.integers()}
)
LINES = st.one_of(
    PLAIN.map(json.dumps),
    PLAIN.map(lambda row: json.dumps(row, ensure_ascii=False)).filter(lambda line: "\ud800" not in line),
    st.dictionaries(NAMES, VALUES, max_size=5).map(json.dumps),
    st.sampled_from(["", "  ", "{", "[1]", '{"prompt": 1e999, "completion": NaN}']),
)


def read(source, folder, **options):
    """The rows of a source by its parts: examples with their files, and refusals."""
    config = IngestConfig(sources=(source,))
    reader = Reader(config, folder / "cache", folder, ScratchRun(folder), **options)
    shards, summaries = reader.read(list(parts_of(source, config)))
    rows = []
    for _, shard in Shards(shards):
        frame = shard.examples()
        rows += zip(frame["file"], tables.records(frame.drop("file"), Example), strict=True)
    refused = [Refusal(*row) for row in refusals(shards).collect().iter_rows()]
    return rows, refused, num_read(summaries)


@settings(max_examples=60, deadline=None)
@given(st.lists(LINES, max_size=12), st.sampled_from(["\n", "\r\n"]), st.sampled_from([1, 40, 1 << 20]))
def test_rows_are_those_of_a_reader_without_parts_whatever_the_size_of_a_block(lines, end, block):
    with tempfile.TemporaryDirectory() as scratch, pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_lines, "BLOCK", block)
        folder = Path(scratch)
        (folder / "rows.jsonl").write_bytes(end.join(lines).encode("utf-8"))
        source = File.model_validate({"from": "file", "path": str(folder / "rows.jsonl"), "license": "MIT"})
        rows, refused, counts = read(source, folder)
        expected = list(read_rows(source, 0))
        assert rows == [(file, record) for file, record in expected if isinstance(record, Example)]
        plain = [record for _, record in expected if isinstance(record, Refusal)]
        assert [(row.where, row.reason, row.detail) for row in refused] == [
            (row.where, row.reason, row.detail) for row in plain
        ]
        assert counts == Counter(file for file, _ in expected)


def test_a_file_that_is_no_plain_utf_8_is_one_part(tmp_path, monkeypatch):
    monkeypatch.setattr(json_lines, "BLOCK", 1)
    lines = [json.dumps({"prompt": f"{n} ä?", "completion": "ö"}, ensure_ascii=False) for n in range(9)]
    numbers = {}
    for encoding in ("utf-8", "utf-8-sig", "utf-16", "cp1252"):
        path = tmp_path / f"{encoding}.jsonl"
        path.write_bytes("\n".join(lines).encode(encoding))
        source = File.model_validate({"from": "file", "path": str(path)})
        numbers[encoding] = len(list(parts_of(source, IngestConfig(sources=(source,)))))
        rows, refused, _ = read(source, tmp_path / encoding)
        assert len(rows) == 9
        assert not refused
    assert numbers == {"utf-8": 9, "utf-8-sig": 1, "utf-16": 1, "cp1252": 1}


def test_what_is_new_is_read_and_nothing_else(workspace, tmp_path):
    num_parts = workspace("first")
    assert workspace("again") == 0
    assert contents(tmp_path / "again") == contents(tmp_path / "first")
    assert workspace("rule", max_response_chars=50, seed=1) == 0
    write_rows(tmp_path / "raw" / "d.jsonl", "d", 3)
    assert workspace("one more file") == 1
    with (tmp_path / "raw" / "c.jsonl").open("a") as file:
        file.write('{"prompt": "One more?", "completion": "Yes."}\n')
    assert workspace("one more row") == 1
    assert workspace("screened", personal="redact") == num_parts + 1
    assert workspace("another licence", source={"license": "MIT"}) == num_parts + 1
    (tmp_path / "raw" / "a.jsonl").unlink()
    assert workspace("one file less", source={"license": "MIT"}) == 0
    assert (
        len(list((tmp_path / "cache/ingest/shards").iterdir())) < num_parts
    )  # those of the file and of the other licence are gone


def test_what_is_excluded_is_read_again_with_its_part_alone_and_kept_nowhere(workspace, tmp_path):
    num_parts = workspace("first")
    one = next(row for row in examples_of(tmp_path, "first")["train"] if row.source.startswith("file raw/b.jsonl"))
    assert workspace("no such id", exclude=["nobody"]) == 0
    assert contents(tmp_path / "no such id") == contents(tmp_path / "first")
    assert workspace("by id", exclude=["nobody", one.id]) == 1
    assert workspace("again", exclude=[one.id]) == 0
    assert contents(tmp_path / "again") == contents(tmp_path / "by id")
    assert len(list((tmp_path / "cache/ingest/shards").iterdir())) == num_parts
    (tmp_path / "cache").rename(tmp_path / "before")
    assert workspace("anew", exclude=[one.id]) == num_parts
    assert contents(tmp_path / "anew") == contents(tmp_path / "by id")
    num_of_file = workspace("by file", exclude=["file raw/c.jsonl", one.id])
    assert 1 < num_of_file < num_parts
    assert all(
        "file raw/c.jsonl" not in row.source for rows in examples_of(tmp_path, "by file").values() for row in rows
    )
    assert workspace("taken back") == num_of_file + 1
    assert contents(tmp_path / "taken back") == contents(tmp_path / "first")


def test_what_quality_refused_is_told_as_excluded_once_it_is(workspace, tmp_path):
    def reasons(name):
        rows = tables.read(tmp_path / name / "ingested/quarantine.parquet", Refusal)
        return {row.where: row.reason for row in rows}

    with (tmp_path / "raw/a.jsonl").open("a") as file:
        file.write('{"prompt": "Is it?", "completion": "No."}\n')
    quality = {"examples": {"min_words": 3}}
    num_parts = workspace("first", quality=quality)
    where = "file raw/a.jsonl: line 61"
    assert reasons("first") == {where: "quality: min_words"}
    assert workspace("excluded", quality=quality, exclude=[where]) == 1 < num_parts
    assert reasons("excluded") == {where: "forgotten"}


def test_while_another_run_uses_the_kept_shards_one_does_without(workspace, tmp_path):
    num_parts = workspace("first")
    kept = contents(tmp_path / "cache")
    with locks.exclusive(tmp_path / "cache/ingest.lock"):
        assert workspace("beside", max_response_chars=60) == num_parts
    assert {path: data for path, data in contents(tmp_path / "cache").items() if path.suffix != ".lock"} == {
        path: data for path, data in kept.items() if path.suffix != ".lock"
    }


def test_a_part_that_lost_its_contents_is_read_again(workspace, tmp_path):
    workspace("first")
    folder = sorted((tmp_path / "cache/ingest/shards").iterdir())[0]
    (folder / "000000-examples.parquet").write_bytes(b"")
    assert workspace("again") == 1
    assert contents(tmp_path / "again") == contents(tmp_path / "first")


def test_several_processes_write_the_same_parts_and_tables(workspace, tmp_path, monkeypatch):
    monkeypatch.setattr(system_workers, "WORTH", 1)
    monkeypatch.setattr(collection, "LARGE_BLOCK", 20)
    num_parts = workspace("alone", threads=1)
    parts_alone = contents(tmp_path / "cache/ingest/shards")
    files.remove(tmp_path / "cache")
    applied = []
    plain = Workers._in_processes
    monkeypatch.setattr(
        Workers,
        "_in_processes",
        lambda self, function, *of: applied.append(function.func) or plain(self, function, *of),
    )
    workspace("together", threads=2)
    assert num_parts > 6
    assert {"_write", "_frequent", "_banded", "_passing"} <= {function.__name__ for function in applied}
    assert contents(tmp_path / "cache/ingest/shards") == parts_alone
    assert contents(tmp_path / "together") == contents(tmp_path / "alone")


def test_a_check_that_fits_no_row_of_any_part_is_an_error(workspace):
    with pytest.raises(ValueError, match="check `choice` fits none of its 180 rows"):
        workspace("checked", source={"check": {"kind": "choice", "options": "choices"}})


def test_a_file_that_changes_while_it_is_read_is_an_error(workspace, tmp_path):
    source = File.model_validate({"from": "file", "path": str(tmp_path / "raw")})
    planned = list(parts_of(source, config := IngestConfig(sources=(source,))))
    write_rows(tmp_path / "raw" / "b.jsonl", "e", 60)
    with pytest.raises(ValueError, match=r"b\.jsonl has changed while it was read"):
        Reader(config, tmp_path / "cache", tmp_path, ScratchRun(tmp_path)).read(planned)


def test_facts_keep_every_bit(tmp_path):
    """64 bits of a hash are more than a float holds."""
    write_rows(tmp_path / "rows.jsonl", "a", 50)
    source = File.model_validate({"from": "file", "path": str(tmp_path / "rows.jsonl")})
    config = IngestConfig(sources=(source,))
    made, _ = Reader(config, tmp_path / "cache", tmp_path, ScratchRun(tmp_path)).read(list(parts_of(source, config)))
    keys = Shards(made).facts("content")
    assert keys.dtype == "uint64"
    assert len(set(keys.tolist())) == 50
    assert keys.tolist() == made[0].facts()["content"].tolist()
