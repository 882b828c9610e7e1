"""A record's story names what was left out because of it, and why the record itself was."""

import pytest

from flows.project.data import show
from tasks.core.records import Refusal
from tasks.io import tables
from tests.flows.project.data import planting


@pytest.fixture
def examples(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return planting.plant(tmp_path)


def test_copies_are_named_whichever_split_they_were_of_and_once(examples, tmp_path):
    kept, place = examples[25], "file sums.jsonl: line {}".format
    refused = [
        Refusal("f", place(41), "near-duplicate", f"too like {kept.source} (test), by embedding", "It is", "a" * 16),
        Refusal("f", place(42), "leak", f"too like {kept.source} (test), similarity 0.93 of the prompts", "It", "b" * 16),
        Refusal("f", place(43), "leak", f"the same as {kept.source}", "It is 26.", kept.id),
        Refusal("f", place(44), "leak", f"overlaps {kept.source}", "No copy", "c" * 16),
    ]  # fmt: skip
    tables.write(tmp_path / "data/ingested/quarantine.parquet", refused, Refusal)
    record = show.show(kept.id)
    assert [left.where for left in record.merged] == [place(41), place(42), place(43)]
    assert record.refused == [], "it is kept"
    for copy in refused[:2]:
        (reason,) = show.show(copy.id).refused
        assert (reason.where, reason.reason, reason.detail) == (copy.where, copy.reason, copy.detail)
