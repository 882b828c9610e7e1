"""Examples come as a stream: the pairs and refusals are the same in chunks of any size, in the order of the examples."""

import json

import pytest

from tasks.core.records import Example, FaultPair, Refusal
from tasks.io import tables
from tasks.stages.faults import findings, stage
from tasks.stages.faults.config import StageConfig
from tests import tiny as small
from tests.support import ScratchRun

LONGER = "    # a program is long enough that a changed line is not half of it\n"


def program(number):
    return f"def mean_{number}(xs):\n{LONGER}{LONGER}    return sum(xs) / len(xs) + {number}\n"


@pytest.fixture
def searched(tiny, tmp_path, monkeypatch):
    """The pairs and refusals for seven examples without tests, in chunks of so many."""
    examples = [small.example(n, prompt=f"{n}?", response=program(n), tests=None, task="function") for n in range(6)]
    examples.insert(3, small.example(9, prompt="9?", response="no program", tests=None, task="function"))
    tables.write(tmp_path / "examples.parquet", examples, Example)
    given = [
        {"correct": program(n), "incorrect": program(n).replace("len(xs)", f"len(xs) - {k}")}
        for n in (4, 0)
        for k in (1, 2)
    ]
    given.append({"correct": "def other(): pass", "incorrect": "x"})
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in given))
    sources = [{"from": "given", "path": str(tmp_path / "pairs.jsonl")}, {"from": "mutation", "attempts": 20}]

    def of(chunk, *first):
        monkeypatch.setattr(findings, "CHUNK", chunk)
        run = ScratchRun(tmp_path, "first")
        outputs = {"pairs": tmp_path / "faults.parquet", "refused": tmp_path / "refused.parquet"}
        config = {
            "compute": {"precision": "fp32", "threads": 1},
            "faults": {"sources": [*first, *sources], "per_example": 2},
        }
        inputs = {"model": tiny, "examples": tmp_path / "examples.parquet", "raw": tmp_path}
        stage.main(inputs, outputs, StageConfig.model_validate(config), run)
        assert not (run.work / "findings").exists()
        return *(
            tables.read(outputs[name], record) for name, record in (("pairs", FaultPair), ("refused", Refusal))
        ), run.said

    return of


def test_chunks_change_no_pair_and_no_refusal(searched):
    pairs, refused, said = searched(1_000)
    assert [pair.example for pair in pairs] == [f"example-{n:04d}" for n in range(6) for _ in range(2)]
    assert [pair.source for pair in pairs[:3]] == ["given", "given", "mutation"]
    assert {refusal.reason for refusal in refused} >= {"no Python", "no example"}
    for chunk in (1, 2, 3):
        again = searched(chunk)
        assert again[0] == pairs
        assert sorted(again[1], key=repr) == sorted(refused, key=repr)
        assert again[2] == said


def test_no_more_than_a_chunk_of_examples_is_in_memory(searched, monkeypatch):
    alive = most = 0
    plain = tables.stream

    def counted(path, record, first=0):
        nonlocal alive, most
        for row in plain(path, record, first):
            alive += record is Example
            most = max(most, alive)
            yield row

    def chunks(self, examples, plain_chunks=findings.Findings.chunks):
        nonlocal alive
        for chunk in plain_chunks(self, examples):
            yield chunk
            alive -= len(chunk)

    monkeypatch.setattr(tables, "stream", counted)
    monkeypatch.setattr(findings.Findings, "chunks", chunks)
    searched(2)
    assert 2 <= most <= 3
