"""An item that people found wrong is in no figure, all other results stay as they were, and the gate set keeps all its items."""

import json
from dataclasses import asdict

import pytest

from tasks.core.records import Decision, Document, Result, Tests
from tasks.io import tables
from tasks.stages.evaluate import stage
from tasks.stages.evaluate.config import StageConfig
from tasks.stages.report.data.availability import left_out_caveat
from tests import tiny as small
from tests.support import ScratchRun

SETTINGS = {
    "compute": {"precision": "fp32", "threads": 1},
    "evaluate": {"max_tokens": 200, "max_new_tokens": 4, "batch_size": 2, "gate_items": 3},
    "methods": {"plain": {}},
}
WRONG = "example-0001"


@pytest.fixture
def evaluate(tiny, tmp_path, monkeypatch):
    """Run the stage with these decisions and return the run, the metrics and the results of both sets."""
    monkeypatch.setattr(stage.verifiers, "judged", lambda tests, text: float(len(text) % 2))
    tests = Tests("answer", "{}", "x")
    for split, first in (("test", 0), ("gate", 10)):
        rows = [small.example(n, prompt=f"Is {n} odd?", tests=tests, split=split) for n in range(first, first + 4)]
        tables.write(tmp_path / f"{split}.parquet", rows, small.Example)
    for name, split in (("documents", "test"), ("gate_documents", "gate")):
        texts = [
            Document(f"{split}-text-{n}", f"Text {n} of few.", "general", "g", split, "by hand", "MIT")
            for n in range(3)
        ]
        tables.write(tmp_path / f"{name}.parquet", texts, Document)

    def of(*decisions):
        (tmp_path / "items.jsonl").write_text("".join(json.dumps(asdict(one)) + "\n" for one in decisions))
        inputs = {name: tmp_path / f"{name}.parquet" for name in ("test", "documents", "gate", "gate_documents")}
        inputs |= {"base": tiny, "model": tiny, "decisions": tmp_path / "items.jsonl"}
        outputs = {name: tmp_path / f"out-{name}" for name in ("metrics", "results", "gate")}
        run = ScratchRun(tmp_path, "r0")
        stage.main(inputs, outputs, StageConfig.model_validate(SETTINGS), run)
        gate = outputs["gate"].read_bytes()
        return run, json.loads(outputs["metrics"].read_text()), tables.read(outputs["results"], Result), gate

    return of


def wrong(item, decision="reject"):
    return Decision(item, decision, "Ada", "two answers are right", time="2026-01-01")


def test_a_wrong_item_is_left_out_and_named_and_nothing_else_changes(evaluate):
    _, before, all_results, gate = evaluate()
    assert "left_out" not in before
    run, after, results, same_gate = evaluate(
        wrong(WRONG), wrong("test-text-2"), wrong("example-0011"), wrong("nowhere")
    )
    assert results == [row for row in all_results if row.item not in (WRONG, "test-text-2")]
    assert same_gate == gate  # its items too are judged by: a candidate passes by none that is taken out
    assert after["left_out"] == {
        "items": {
            WRONG: {"measures": ["domain", "pass@1"], "author": "Ada", "reason": "two answers are right"},
            "test-text-2": {"measures": ["general"], "author": "Ada", "reason": "two answers are right"},
        },
        "of the gate set": ["example-0011"],
        "not measured": ["nowhere"],
    }
    assert after["pass@1"]["all"]["n"] == 3
    assert after["domain"]["items"] == before["domain"]["items"] - 1
    assert "the gate set keeps all its items, so these too: example-0011" in run.said[-2]
    withdrawn = evaluate(wrong(WRONG), wrong(WRONG, "withdraw"))
    assert withdrawn[1:] == (before, all_results, gate)
    assert left_out_caveat({"base": before, "r0": after}) == (
        "2 items are left out of all figures, since people found them wrong (data/review_items.jsonl): example-0001, test-text-2."
    )


def test_a_measure_without_any_item_left_is_named(evaluate):
    with pytest.raises(ValueError, match=r"marks all items of general as wrong, so no item is left to measure"):
        evaluate(*(wrong(f"test-text-{n}") for n in range(3)))
