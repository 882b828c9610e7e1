"""A run that is killed, or has no room left, leaves nothing half written; the next one has the same bytes."""

import errno
import os
import resource
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

from tasks.core.text import arrays
from tasks.io.system import files, process
from tasks.stages.ingest import stage
from tasks.stages.ingest.filtering.examples import Filter
from tasks.stages.ingest.shards import parts
from tasks.stages.ingest.shards.shard import Shard
from tests.stages.ingest.running import contents

ROOT = Path(__file__).resolve().parents[4]


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


@contextmanager
def no_file_beyond(size):
    """While this holds, the system refuses to make a file larger, as it does on a disk without room: it writes what fits, then fails."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize(
    ("owner", "name", "size"), [(Filter, "apply", 500), (stage, "_write_tables", 1_000)], ids=["buckets", "tables"]
)
def test_without_room_one_sentence_says_so_and_the_next_run_has_every_byte(
    workspace, tmp_path, monkeypatch, owner, name, size
):
    monkeypatch.setattr(arrays, "IN_MEMORY", 0)
    num_parts = workspace("whole")
    plain = getattr(owner, name)

    def cramped(*given):
        with no_file_beyond(size):
            return plain(*given)

    with monkeypatch.context() as patch:
        patch.setattr(owner, name, cramped)
        with pytest.raises(process.expected()) as raised:
            workspace("full", seed=1)
    assert "larger than is allowed here" in process.explain(raised.value)
    assert "\n" not in process.explain(raised.value)
    assert not (tmp_path / "full/examples.parquet").exists()
    assert not list((tmp_path / "full").rglob("*.partial"))
    assert not (tmp_path / "cache/ingest/scratch").exists()
    assert workspace("full", seed=1) == 0  # what was read is kept
    files.remove(tmp_path / "cache")
    assert workspace("fresh", seed=1) == num_parts
    assert contents(tmp_path / "full") == contents(tmp_path / "fresh")


def test_without_room_for_a_shard_one_sentence_says_so_and_the_shards_before_are_kept(workspace, tmp_path, monkeypatch):
    num_parts = workspace("whole")
    files.remove(tmp_path / "cache")
    plain, folders = Shard._write_frame, []

    def cramped(self, name, frame):
        folders.append(self.folder)
        if len(set(folders)) < 5:
            return plain(self, name, frame)
        with no_file_beyond(200):
            return plain(self, name, frame)

    with monkeypatch.context() as patch:
        patch.setattr(Shard, "_write_frame", cramped)
        with pytest.raises(process.expected()) as raised:
            workspace("full")
    assert "larger than is allowed here" in process.explain(raised.value)
    assert "\n" not in process.explain(raised.value)
    assert not (tmp_path / "full/examples.parquet").exists()
    kept = list((tmp_path / "cache/ingest/shards").iterdir())
    assert len(kept) == 4
    assert all(parts.written(folder) is not None for folder in kept)
    assert workspace("full") == num_parts - 4
    assert contents(tmp_path / "full") == contents(tmp_path / "whole")


APART = """
import os, signal, sys
from pathlib import Path
from tasks.io.sources.formats import json_lines
from tasks.stages.ingest.shards.shard import Shard
from tests.stages.ingest.running import ingest

json_lines.BLOCK = 1_500
plain, written = Shard.write, []

def write(shard, *rows):
    plain(shard, *rows)
    written.append(shard)
    if len(written) == int(os.environ.get("KILLED_AFTER", 0)):
        os.kill(os.getpid(), signal.SIGKILL)

Shard.write = write
folder = Path(sys.argv[1])
ingest(folder, [{"from": "file", "path": str(folder / "raw")}], sys.argv[2])
"""


def run_apart(folder, name, **environment):
    """Run the stage as `workspace` does, in a process of its own, and return its exit code."""
    return subprocess.run(
        [sys.executable, "-c", APART, folder, name],
        env=os.environ | environment | {"PYTHONPATH": str(ROOT)},
        check=False,
    ).returncode


def test_a_process_that_is_killed_in_the_middle_of_a_part_is_followed_by_the_same_bytes(workspace, tmp_path):
    num_parts = workspace("whole")
    whole = contents(tmp_path / "cache/ingest/shards")
    files.remove(tmp_path / "cache")
    assert run_apart(tmp_path, "killed", KILLED_AFTER="5") == -signal.SIGKILL
    assert not (tmp_path / "killed/examples.parquet").exists()
    kept = {folder.name for folder in (tmp_path / "cache/ingest/shards").iterdir()}
    assert len(kept) == 5
    assert sum(name.endswith(".partial") for name in kept) == 1  # that of the part which was being written
    assert workspace("resumed") == num_parts - 4
    assert contents(tmp_path / "resumed") == contents(tmp_path / "whole")
    assert contents(tmp_path / "cache/ingest/shards") == whole


def test_one_thread_of_polars_writes_the_bytes_of_all(workspace, tmp_path):
    workspace("many")
    run_apart(tmp_path, "one", POLARS_MAX_THREADS="1")
    assert contents(tmp_path / "one") == contents(tmp_path / "many")
