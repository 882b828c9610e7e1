"""Stage `evaluate` measures a model alone, or another model that it steers, and says which."""

import json
from pathlib import Path

import pytest
import torch

from tasks.core.records import Document, Example, Result, Tests
from tasks.engine import encode, scoring
from tasks.io import checkpoints, tables
from tasks.stages.evaluate import stage
from tasks.stages.evaluate.params import Settings
from tests import tiny as small
from tests.support import ScratchRun

EVALUATE = {"max_new_tokens": 6, "batch_size": 2, "max_tokens": 200}


def model(tiny, folder, seed, *, vocabulary=None):
    """A folder with a model of random weights, drawn so wide that they show."""
    made, tokenizer = checkpoints.load(tiny)
    if vocabulary:
        made.resize_token_embeddings(vocabulary)
    torch.manual_seed(seed)
    for parameter in made.parameters():
        if parameter.ndim == 2:
            torch.nn.init.normal_(parameter, std=0.2)
    made.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def inputs(tiny, tmp_path):
    """A small model, what came of its tuning, and held-out data with an answer to find."""
    rows = [small.example(n, prompt=f"Is {n} odd?", tests=Tests("answer", "{}", "x"), split="test") for n in range(4)]
    texts = [
        Document(f"text-{n}", f"Text {n}, of few words.", "domain", "g", "test", "by hand", "MIT") for n in range(3)
    ]
    tables.write(tmp_path / "test.parquet", rows, Example)
    tables.write(tmp_path / "documents.parquet", texts, Document)
    return {
        "base": model(tiny, tmp_path / "small", 1),
        "model": model(tiny, tmp_path / "tuned", 2),
        "test": tmp_path / "test.parquet",
        "documents": tmp_path / "documents.parquet",
    }


@pytest.fixture
def evaluate(inputs, tmp_path, monkeypatch):
    """What the stage writes under this decoder, of the answers' scores the number of their characters."""
    monkeypatch.setattr(stage.gym, "score", lambda tests, text: float(len(text) % 2))

    def of(decoder="plain", settings=None, **files):
        outputs = {"metrics": tmp_path / "metrics.json", "results": tmp_path / "results.parquet"}
        sections = {
            "compute": {"precision": "fp32", "threads": 1},
            "evaluate": EVALUATE | {"decoder": decoder},
            "methods": {decoder: settings or {}},
        }
        stage.main(inputs | files, outputs, Settings.model_validate(sections), ScratchRun(tmp_path, "r0"))
        answers = {row.item: row.output for row in tables.read(outputs["results"], Result) if row.measure == "pass@1"}
        return json.loads(outputs["metrics"].read_text()), answers

    return of


@pytest.fixture
def large(tiny, tmp_path, evaluate):
    """The settings by which a large model of its own folder is steered; the stage says its digest."""
    folder = model(tiny, tmp_path / "large", 3, vocabulary=272)
    with pytest.raises(ValueError, match=r"names \(nothing\)\. .*write `digest: ") as caught:
        evaluate("proxy_tuning", {"steers": str(folder)})
    return {"steers": str(folder), "digest": str(caught.value).split("`digest: ")[1].split("`")[0]}


def test_a_model_is_measured_by_its_own_losses_and_answers(evaluate, inputs):
    metrics, answers = evaluate()
    alone, tokenizer = checkpoints.load(inputs["model"])
    rows = list(encode.examples(tables.read(inputs["test"], Example), tokenizer, 200))
    assert metrics["domain"]["loss"] == pytest.approx(scoring.mean(scoring.losses(alone, rows)), abs=1e-5)
    assert metrics["settings"]["decoder"] == "plain"
    assert len(answers) == 4


def test_programs_are_run_and_the_sandbox_is_named(evaluate, inputs):
    programs = [
        small.example(n, prompt=f"Write f number {n}.", tests=Tests("doctest", ">>> f()\n1\n", "f"), split="test")
        for n in range(2)
    ]
    assert evaluate()[0]["settings"]["sandbox"] is None  # answers are compared, not run
    tables.write(inputs["test"], programs, Example)
    metrics, answers = evaluate()
    assert metrics["settings"]["sandbox"] == 2
    assert metrics["pass@1"]["all"]["value"] == 0
    assert len(answers) == 2


def test_without_examples_texts_alone_are_measured(evaluate, inputs, tmp_path):
    tables.write(inputs["test"], [], Example)
    metrics, answers = evaluate()
    alone, tokenizer = checkpoints.load(inputs["model"])
    rows = list(encode.documents(tables.read(inputs["documents"], Document), tokenizer, 200))
    assert "domain" not in metrics
    assert metrics["domain_text"]["loss"] == pytest.approx(scoring.mean(scoring.losses(alone, rows)), abs=1e-5)
    assert {row.measure for row in tables.read(tmp_path / "results.parquet", Result)} == {"domain_text"}
    assert metrics["pass@1"] == {"not_run": "no held-out example has tests"}
    assert answers == {}


def test_examples_of_which_none_fits_are_told_with_the_setting(evaluate, inputs):
    tables.write(inputs["test"], [small.example(response="x" * 300, split="test")], Example)
    with pytest.raises(ValueError, match=r"evaluate\.max_tokens=200: none of the 1 held-out examples fits"):
        evaluate()


def by_hand(large, alpha, inputs):
    """Nats per token of the held-out answers by the paper's equation, on one sequence after the other."""
    folders = (large["steers"], inputs["model"], inputs["base"])
    main, expert, antiexpert = (checkpoints.load(Path(folder))[0] for folder in folders)
    nats, count = 0.0, 0
    rows = tables.read(inputs["test"], Example)
    for row in encode.examples(rows, checkpoints.load_tokenizer(inputs["model"]), EVALUATE["max_tokens"]):
        ids = torch.tensor([row.ids])
        with torch.no_grad():
            m, plus, minus = (each(input_ids=ids).logits[0, :-1, :259] for each in (main, expert, antiexpert))
        nll = -(m + alpha * (plus - minus)).log_softmax(dim=1).gather(1, ids[0, 1:, None])[:, 0]
        trained = torch.tensor(row.weights[1:]) > 0
        nats, count = nats + nll[trained].sum().item(), count + int(trained.sum())
    return nats / count


def test_a_steered_model_is_the_large_one_moved_by_what_tuning_did(evaluate, large, inputs):
    metrics, answers = evaluate("proxy_tuning", large | {"alpha": 0.7})
    assert metrics["domain"]["loss"] == pytest.approx(by_hand(large, 0.7, inputs), abs=1e-4)
    assert metrics["domain"]["loss"] != pytest.approx(by_hand(large, 0.0, inputs), abs=1e-2)
    assert metrics["settings"]["decoder"] == "proxy_tuning"
    assert metrics["settings"]["methods"] == {"proxy_tuning": large | {"alpha": 0.7}}
    assert answers != evaluate("proxy_tuning", large | {"alpha": 0.0})[1]


def test_a_model_that_was_not_tuned_steers_nowhere(evaluate, large, inputs):
    # The entry of group `reference`, which the others are compared with, is the large model alone.
    metrics, answers = evaluate("proxy_tuning", large, model=inputs["base"])
    alone, expected = evaluate("proxy_tuning", large | {"alpha": 0.0})
    assert metrics["domain"]["loss"] == pytest.approx(by_hand(large, 0.0, inputs), abs=1e-4)
    assert metrics["domain"]["loss"] == pytest.approx(alone["domain"]["loss"], abs=1e-5)
    assert answers == expected


def test_a_large_model_that_is_not_pinned_is_refused_with_what_to_write(evaluate, large, tiny, tmp_path):
    with pytest.raises(ValueError, match=r"steers names no model"):
        evaluate("proxy_tuning", {})
    with pytest.raises(ValueError, match=rf"large is not the model .*\(0000\)\. .*write `digest: {large['digest']}`"):
        evaluate("proxy_tuning", large | {"digest": "0000"})
    (tmp_path / "large/ratchet.json").write_text("{}")  # where it came from does not change what it is
    evaluate("proxy_tuning", large)
    model(tiny, tmp_path / "large", 4, vocabulary=272)
    with pytest.raises(ValueError, match="is not the model that"):
        evaluate("proxy_tuning", large)
    with pytest.raises(ValueError, match="nowhere is no model folder"):
        evaluate("proxy_tuning", {"steers": "nowhere"})
