"""Sources are read in parts: the same rows whatever the parts, nothing twice, and nothing half written."""

import errno
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
from tasks.stages.ingest import stage
from tasks.stages.ingest.config import File, IngestConfig, StageConfig
from tasks.stages.ingest.reading.examples import read_rows
from tasks.stages.ingest.shards import parts, workers
from tasks.stages.ingest.shards.collection import Reader, Shards, num_read, refusals
from tasks.stages.ingest.shards.parts import parts_of
from tasks.stages.ingest.shards.shard import Shard
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
PLAIN = st.fixed_dictionaries({"prompt": TEXTS, "completion": TEXTS}, optional={"input": TEXTS, "id": st.integers()})
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


@pytest.fixture
def workspace(tmp_path, monkeypatch):
    """A folder of three files, each of several blocks, and `run`, which ingests it and returns the parts that were read."""
    monkeypatch.setattr(json_lines, "BLOCK", 1_500)
    raw = tmp_path / "raw"
    raw.mkdir()
    for name in "abc":
        write_rows(raw / f"{name}.jsonl", name, 60)
    written = []
    plain = parts.write_part
    monkeypatch.setattr(
        workers, "write_part", lambda part, folder, config: written.append(folder) or plain(part, folder, config)
    )

    def run(name, **changes):
        written.clear()
        outputs = {"ingested": tmp_path / name / "ingested", "examples": tmp_path / name / "examples.parquet"}
        ingest = {"sources": [{"from": "file", "path": str(raw), **changes.pop("source", {})}], **changes}
        ingest |= {"near_duplicates": {"cosine": None}}
        config = StageConfig.model_validate({"compute": {"threads": 1}, "ingest": ingest})
        stage.main({"embedder": tmp_path, "raw": raw}, outputs, config, ScratchRun(tmp_path))
        return len(written)

    return run


def write_rows(path, name, number):
    rows = [
        {"prompt": f"What is the {name} of {n}?", "completion": f"It is {name * 20} {n * n}."} for n in range(number)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_a_killed_run_goes_on_with_the_part_that_was_being_read(workspace, tmp_path, monkeypatch):
    num_parts = workspace("whole")
    assert num_parts > 6
    files.remove(tmp_path / "cache")
    plain, calls = Shard.write, []

    def killed(self, *rows):
        calls.append(self)
        if len(calls) == 5:
            raise KeyboardInterrupt
        plain(self, *rows)

    with monkeypatch.context() as patch:
        patch.setattr(Shard, "write", killed)
        with pytest.raises(KeyboardInterrupt):
            workspace("killed")
    assert not (tmp_path / "killed" / "examples.parquet").exists()
    assert workspace("resumed") == num_parts - 4
    assert contents(tmp_path / "resumed") == contents(tmp_path / "whole")


def test_a_full_disk_leaves_no_half_of_a_part(workspace, tmp_path, monkeypatch):
    plain, calls = Shard._save, []

    def full(self, name, array):
        calls.append(name)
        if len(calls) == 20:
            raise OSError(errno.ENOSPC, "No space left on device", str(self.folder))
        plain(self, name, array)

    with monkeypatch.context() as patch:
        patch.setattr(Shard, "_save", full)
        with pytest.raises(OSError, match="No space left on device"):
            workspace("full")
    folders = list((tmp_path / "cache/ingest/shards").iterdir())
    assert folders
    assert all(parts.written(folder) is not None for folder in folders)
    num_left = workspace("freed")
    assert num_left > 0
    assert num_left + len(folders) == len(list((tmp_path / "cache/ingest/shards").iterdir()))


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


def test_several_processes_write_the_same_parts(workspace, tmp_path, monkeypatch):
    monkeypatch.setattr(workers, "PARTS_A_WORKER", 1)
    source = File.model_validate({"from": "file", "path": str(tmp_path / "raw")})
    alone = read(source, tmp_path / "alone")
    monkeypatch.setattr(workers, "write_part", parts.write_part)  # what runs elsewhere is found by its name
    assert read(source, tmp_path / "together", processes=2) == alone
    assert contents(tmp_path / "alone/cache") == contents(tmp_path / "together/cache")


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
