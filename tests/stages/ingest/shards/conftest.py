"""A folder of rows that is ingested in several parts."""

import pytest

from tasks.io.sources.formats import json_lines
from tasks.stages.ingest.shards import parts, workers
from tests.stages.ingest.running import ingest, write_rows


@pytest.fixture
def workspace(tmp_path, monkeypatch):
    """A folder of three files with several blocks each, and a function that ingests it and returns the parts that were read."""
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

    def run(name, source=(), **changes):
        written.clear()
        ingest(tmp_path, [{"from": "file", "path": str(raw), **dict(source)}], name, **changes)
        return len(written)

    return run
