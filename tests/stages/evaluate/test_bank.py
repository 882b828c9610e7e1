"""A bank is measured under a router: each prompt is answered, and each example scored, by the adapter that it goes to."""

import json

import pytest

from tasks.core.records import Document, Example, Result, Tests
from tasks.engine import encode
from tasks.engine.inference import generation, scoring
from tasks.engine.inference.bank import Bank
from tasks.io import tables
from tasks.stages.evaluate import stage
from tasks.stages.evaluate.config import StageConfig
from tasks.stages.tune import stage as tune
from tasks.stages.tune.config import StageConfig as TuneConfig
from tests import tiny as small
from tests.stages.tune.conftest import METHODS, TUNE
from tests.support import NOTHING_DECIDED, ScratchRun

TASKS = ("count", "colour")


def rows(split, count):
    return [
        small.example(
            n, id=f"{task}-{n}-{split}", task=task, prompt=f"{task} {n}?", response=task.upper(), split=split,
            tests=Tests("answer", "{}", "x"),
        )
        for n in range(count)
        for task in TASKS
    ]  # fmt: skip


@pytest.fixture(scope="module")
def inputs(tiny, tmp_path_factory):
    """A bank of two tasks on a small base, and held-out data of both, and of a third that it lacks."""
    folder = tmp_path_factory.mktemp("bank")
    tables.write(folder / "examples.parquet", rows("train", 12), Example)
    tables.write(folder / "test.parquet", [*rows("test", 3), small.example(99, task="other", split="test")], Example)
    texts = [
        Document(f"text-{n}", f"Text {n}, of few words.", "general", "g", "test", "by hand", "MIT") for n in (1, 2)
    ]
    tables.write(folder / "documents.parquet", texts, Document)
    settings = TuneConfig.model_validate(
        {"compute": {"precision": "fp32", "threads": 1}, "tune": TUNE | {"bank": "task"}, "methods": METHODS}
    )
    files = {name: folder / f"{name}.parquet" for name in ("examples", "test", "documents")}
    tuning = {"base": tiny, "examples": files["examples"], "valid": files["test"], "faults": None, "documents": None}
    tune.main({k: v for k, v in tuning.items() if v}, {"model": folder / "r0"}, settings, ScratchRun(folder, "r0"))
    return {"base": tiny, "model": folder / "r0", "decisions": NOTHING_DECIDED} | {
        name: files[name] for name in ("test", "documents")
    }


@pytest.fixture
def measure(inputs, tmp_path, monkeypatch):
    """Measure under a router: the metrics, and the results by measure and item."""
    monkeypatch.setattr(stage.verifiers, "judged", lambda tests, text: float(len(text) % 2))

    def of(router="task", run=None, **evaluate):
        files = {name: tmp_path / f"{name}.out" for name in ("metrics", "results")}
        sections = {
            "compute": {"precision": "fp32", "threads": 1},
            "evaluate": {"max_new_tokens": 6, "batch_size": 2, "max_tokens": 200, "router": router} | evaluate,
            "methods": {"plain": {}, "proxy_tuning": {}, "bundle": {"size": 64}},
        }
        stage.main(inputs, files, StageConfig.model_validate(sections), run or ScratchRun(tmp_path, "r0"))
        results = {(row.measure, row.item): row for row in tables.read(files["results"], Result)}
        return json.loads(files["metrics"].read_text()), results

    return of


def test_each_example_is_scored_and_answered_by_its_own_adapter(measure, inputs):
    metrics, results = measure()
    bank = Bank(inputs["model"], inputs["base"])
    examples = tables.read(inputs["test"], Example)
    for example in examples:
        model = bank.model(example.task if example.task in TASKS else None)
        (loss,) = scoring.losses(model, [encode.example(example, bank.tokenizer)])
        assert results["domain", example.id].value == pytest.approx(loss.nats, abs=1e-4)
        if example.tests:
            (text,) = generation.write(model, [example.prompt], bank.tokenizer, max_new_tokens=6, batch_size=1)
            assert results["pass@1", example.id].output == text
    assert {results["pass@1", row.id].output for row in examples if row.task == "count"} != {
        results["pass@1", row.id].output for row in examples if row.task == "colour"
    }
    assert metrics["bank"]["to_own"] == 1.0
    assert metrics["bank"]["sent"]["general"] == {"": 2}, "text of no task is the base's"
    assert metrics["settings"]["router"] == "task"
    assert metrics["bytes"] > 0 < metrics["trainable"]


def test_without_a_router_the_base_answers_and_it_is_said(measure, inputs, tmp_path):
    run = ScratchRun(tmp_path, "r0")
    metrics, _ = measure("none", run)
    assert "its base answers in place of all 2 adapters" in run.said[0]
    bank = Bank(inputs["model"], inputs["base"])
    sequences = list(encode.examples(tables.read(inputs["test"], Example), bank.tokenizer, 200))
    assert metrics["domain"]["loss"] == pytest.approx(scoring.mean(scoring.losses(bank.base, sequences)), abs=1e-5)
    assert metrics["bank"]["to_own"] == 0.0
    assert "router" not in metrics["settings"]


@pytest.mark.parametrize("router", ["nearest", "bundle"])
def test_the_nearest_finds_tasks_that_prompts_tell_apart(measure, router):
    metrics, _ = measure(router)
    assert metrics["bank"]["to_own"] == 1.0


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"server": {"url": "http://127.0.0.1:9/v1", "model": "m"}}, "evaluate.server takes one model"),
        ({"decoder": "proxy_tuning"}, "evaluate.decoder proxy_tuning takes one model"),
        ({"harness": {"tasks": ["x"]}}, "measures one model's own logits, and a bank has several"),
    ],
)
def test_what_takes_one_model_refuses_a_bank(measure, settings, sentence):
    with pytest.raises(ValueError, match=sentence):
        measure(**settings)
