"""Stage `evaluate` measures a model alone, or another model that it steers, and says which."""

import json
from collections import Counter
from functools import cache
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError

from tasks.core import statistics
from tasks.core.records import Document, Example, Result, Tests
from tasks.core.sequences import Encoded
from tasks.engine import encode
from tasks.engine.inference import generation, scoring
from tasks.io import sandbox, tables, verifiers
from tasks.io.sandbox import Level, judge
from tasks.io.sources import benchmarks, gym
from tasks.io.system.workers import Workers
from tasks.io.weights import checkpoints
from tasks.stages.evaluate import measured_model, stage
from tasks.stages.evaluate.config import EvaluateConfig, StageConfig
from tests import tiny as small
from tests.model_server import serving_weights
from tests.support import NOTHING_DECIDED, ScratchRun

EVALUATE = {"max_new_tokens": 6, "batch_size": 2, "max_tokens": 200}


def model(tiny, folder, seed, *, vocabulary=None):
    """A folder with a model of random weights, drawn so wide that they show."""
    network, tokenizer = checkpoints.load(tiny)
    if vocabulary:
        network.resize_token_embeddings(vocabulary)
    torch.manual_seed(seed)
    for parameter in network.parameters():
        if parameter.ndim == 2:
            torch.nn.init.normal_(parameter, std=0.2)
    network.save_pretrained(folder)
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
        "decisions": NOTHING_DECIDED,
    }


@pytest.fixture
def evaluate(inputs, tmp_path, monkeypatch):
    """Run the stage with this decoder and return its outputs; an answer's score is its length modulo 2."""
    monkeypatch.setattr(stage.verifiers, "judged", lambda tests, text: float(len(text) % 2))

    def of(decoder="plain", config=None, more=None, item="r0", outputs=(), **files):
        outputs = {
            "metrics": tmp_path / "metrics.json", "results": tmp_path / "results.parquet", **dict(outputs)
        }  # fmt: skip
        sections = {
            "compute": {"precision": "fp32", "threads": 1},
            "evaluate": EVALUATE | {"decoder": decoder} | (more or {}),
            "methods": {decoder: config or {}},
        }
        stage.main(inputs | files, outputs, StageConfig.model_validate(sections), ScratchRun(tmp_path, item))
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
    assert (metrics["settings"]["padding"], metrics["settings"]["batch_size"]) == (generation.PADDING, 2)
    assert len(answers) == 4


def test_only_a_model_that_its_folder_names_works_on_nodes(inputs, large, tmp_path):
    def on(decoder, **settings):
        sections = {"compute": {"threads": 1}, "evaluate": {"decoder": decoder}, "methods": {decoder: settings}}
        with Workers() as workers:
            return measured_model.load(inputs, StageConfig.model_validate(sections), ScratchRun(tmp_path), workers)[
                2
            ].on

    assert on("plain")
    assert not on("proxy_tuning", **large)


def test_what_is_written_does_not_depend_on_the_models_name(evaluate, tmp_path):
    written = []
    for name in ("r0", "r1"):  # where everything else is equal, r1 takes over what r0 made
        evaluate(item=name)
        written.append([(tmp_path / file).read_bytes() for file in ("metrics.json", "results.parquet")])
    assert written[0] == written[1]


def test_the_gate_set_is_measured_into_a_file_of_its_own(evaluate, inputs, tmp_path):
    rows = [
        small.example(n, prompt=f"Is {n} odd?", tests=Tests("answer", "{}", "x"), split="gate") for n in range(10, 16)
    ]
    tables.write(tmp_path / "gate.parquet", rows, Example)
    tables.write(tmp_path / "gate_documents.parquet", [], Document)
    files = {"gate": tmp_path / "gate.parquet", "gate_documents": tmp_path / "gate_documents.parquet"}
    few = {"domain_tokens": 90, "gate_items": 2}
    metrics, answers = evaluate(more=few, outputs={"gate": tmp_path / "gate_results.parquet"}, **files)
    results = tables.read(tmp_path / "gate_results.parquet", Result)
    scored = [row.item for row in results if row.measure == "domain"]
    assert scored == [row.id for row in rows][: len(scored)]  # the lowest ids, whatever else there is
    assert 1 < len(scored) < 6
    assert len([row for row in results if row.measure == "pass@1"]) == 2
    assert evaluate(more=few) == (metrics, answers)  # the report's own figures know nothing of it


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


DRAWN = {"samples": 4, "ks": [1, 3], "temperature": 1.5, "top_p": 1.0}


def test_pass_at_k_comes_from_all_drawn_answers_and_the_first_is_greedy(evaluate, tmp_path):
    greedy, expected = evaluate()
    metrics, answers = evaluate(more=DRAWN)
    assert answers == expected
    assert metrics["pass@1"] == greedy["pass@1"]
    rows = tables.read(tmp_path / "results.parquet", Result)
    passed = {
        item: [row.value for row in rows if row.item == item and row.measure.startswith("sample ")] for item in answers
    }
    assert {len(values) for values in passed.values()} == {4}
    for k in (1, 3):
        chances = {row.item: row.value for row in rows if row.measure == f"sampled pass@{k}"}
        assert chances == {item: statistics.pass_at_k(4, int(sum(values)), k) for item, values in passed.items()}
        assert metrics["sampled"][f"pass@{k}"]["value"] == pytest.approx(sum(chances.values()) / 4)
    assert metrics["sampled"]["outcomes"] == dict(
        Counter(row.outcome for row in rows if row.measure.startswith("sample "))
    )
    assert sum(metrics["sampled"]["outcomes"].values()) == 16
    assert 0 < metrics["sampled"]["pass@1"]["value"] < 1, "all alike would hide a mix-up"


def test_drawn_answers_repeat_and_follow_the_seed_but_not_the_size_of_a_batch(evaluate, tmp_path):
    def texts(**more):
        metrics, _ = evaluate(more=DRAWN | more)
        rows = tables.read(tmp_path / "results.parquet", Result)
        return {(row.measure, row.item): row.output for row in rows if "sample " in row.measure}, metrics

    (first, metrics), (second, same), (batched, _), (other, _) = texts(), texts(), texts(batch_size=5), texts(seed=1)
    assert first == second == batched
    assert metrics == same
    assert first.keys() == other.keys()
    assert sum(first[key] != other[key] for key in first) > 10


def test_human_eval_is_a_measure_of_its_own_which_its_own_solutions_pass(evaluate, monkeypatch, tmp_path):
    solutions = {problem.request.content: problem for problem in benchmarks.human_eval("tests")}
    wrong = []

    def write(model, prompts, *_, **options):
        """The reference solutions, but for one that does nothing."""
        problems = [solutions.get(prompt[0].content) for prompt in prompts]
        wrong.extend(problem.name for problem in problems[:1] if problem and not wrong)
        texts = [
            "" if p is None else f"```python\n{p.stub}{'    pass' if p.name in wrong else p.body}\n```"
            for p in problems
        ]
        return [generation.Response(text, True) for text in texts]

    monkeypatch.setattr(stage.generation, "respond", write)
    without, _ = evaluate()
    metrics, _ = evaluate(more={"human_eval": 5, "strength": {"mutants": 2}})
    assert metrics["human_eval"]["pass@1"]["all"] == statistics.proportion(4, 5).record()
    assert len(metrics["human_eval"]["strength"]["items"]) == 5
    assert metrics["human_eval"]["outcomes"]["passed"] == 4
    assert metrics["settings"]["sandbox"] == 2
    assert "human_eval" not in without
    assert metrics["pass@1"] == without["pass@1"]
    rows = [row for row in tables.read(tmp_path / "results.parquet", Result) if row.measure == "human_eval pass@1"]
    assert [row.item for row in rows if row.outcome != "passed"] == wrong
    assert {row.item.partition("/")[0] for row in rows} == {"HumanEval"}


def test_human_eval_waits_for_a_sandbox_where_answers_that_are_compared_do_not(evaluate, monkeypatch):
    monkeypatch.setattr(stage.sandbox, "probe", lambda: Level(1, "limits"))
    metrics, answers = evaluate(more={"human_eval": 2})
    assert metrics["human_eval"]["pass@1"]["not_run"].startswith("no sandbox on this machine")
    assert len(answers) == 4


def test_tasks_whose_verifier_evaluates_wait_for_a_sandbox_before_any_answer_is_written(evaluate, inputs, monkeypatch):
    monkeypatch.undo()  # of what judges in place of verifiers
    for module in (judge, sandbox):
        monkeypatch.setattr(module, "probe", lambda: Level(1, "limits"))
    monkeypatch.setattr(verifiers, "_judge", cache(verifiers._judge.__wrapped__))
    monkeypatch.setattr(stage.generation, "respond", lambda *_, **__: pytest.fail("an answer is written"))
    tables.write(inputs["test"], gym.new_examples(gym.Kind("countdown", "countdown", {}), 2, "test", []), Example)
    not_run = evaluate(more={"max_tokens": 2000})[0]["pass@1"]["not_run"]
    assert not_run.startswith("no sandbox on this machine, and the verifier of countdown evaluates answers")


@pytest.mark.parametrize("wrong", [{"samples": 5}, {"samples": 5, "ks": [6]}])
def test_a_k_above_the_number_of_samples_is_refused_with_what_would_do(wrong):
    with pytest.raises(
        ValidationError, match=r"pass@(10|6) cannot be told from 5 samples: raise `samples` or lower `ks`"
    ):
        EvaluateConfig.model_validate(wrong)


def test_settings_that_could_mean_nothing_are_refused():
    for wrong in ({"stop": [""]}, {"ks": []}, {"ks": [0]}, {"temperature": 0}, {"top_p": 0}, {"human_eval": 165}):
        with pytest.raises(ValidationError):
            EvaluateConfig.model_validate(wrong)


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


def test_texts_beyond_the_context_are_refused_with_the_setting(evaluate, inputs, tmp_path):
    inputs["model"] = inputs["base"] = small.short(inputs["base"], tmp_path / "short", 30)
    with pytest.raises(
        ValueError, match=r"has 30 tokens, and a text of \d+ tokens .* Set evaluate\.max_tokens: 30 or less"
    ):
        evaluate()


def test_a_rejected_answer_beyond_the_context_is_refused_with_the_setting(evaluate, inputs, tmp_path):
    rows = [small.example(1, response="yes", rejected="no " * 40, split="test")]
    tables.write(inputs["test"], rows, Example)
    inputs["model"] = inputs["base"] = small.short(inputs["base"], tmp_path / "short", 100)
    with pytest.raises(ValueError, match=r"has 100 tokens, .* Set evaluate\.max_tokens: 100 or less"):
        evaluate()


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


def test_a_text_beyond_the_context_of_a_helper_is_not_scored(evaluate, large, inputs, tmp_path):
    expert = small.short(inputs["model"], tmp_path / "short", context=10)
    with pytest.raises(
        ValueError, match=r"context of the model has 10 tokens, .* Set evaluate\.max_tokens: 10 or less"
    ):
        evaluate("proxy_tuning", large, model=expert)
    sections = {"compute": {"threads": 1}, "evaluate": {"decoder": "proxy_tuning"}, "methods": {"proxy_tuning": large}}
    config, run = StageConfig.model_validate(sections), ScratchRun(tmp_path)
    with Workers() as workers:
        *_, steered = measured_model.load(inputs | {"model": expert}, config, run, workers)
    option = Encoded("an option of a choice", list(range(20)), [1.0] * 20, 20)
    with pytest.raises(ValueError, match="context of the model has 10 tokens"):
        list(steered.losses([option], run))


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
    with pytest.raises(ValueError, match=rf"large does not hold what .*\(0000\)\. .*write `digest: {large['digest']}`"):
        evaluate("proxy_tuning", large | {"digest": "0000"})
    (tmp_path / "large/ratchet.json").write_text("{}")  # where it came from does not change what it is
    evaluate("proxy_tuning", large)
    model(tiny, tmp_path / "large", 4, vocabulary=272)
    with pytest.raises(ValueError, match="does not hold what methods"):
        evaluate("proxy_tuning", large)
    with pytest.raises(ValueError, match="nowhere is not a model folder"):
        evaluate("proxy_tuning", {"steers": "nowhere"})


def test_standard_benchmarks_stand_beside_the_rest(evaluate, monkeypatch):
    monkeypatch.setattr(
        stage.standard_benchmarks, "measure", lambda model, tokenizer, config, params: {"scores": list(config.tasks)}
    )
    without, _ = evaluate()
    metrics, _ = evaluate(more={"harness": {"tasks": ["arc_easy"]}})
    assert metrics.pop("harness") == {"scores": ["arc_easy"]}
    assert {k: v for k, v in metrics.items() if k != "settings"} == {
        k: v for k, v in without.items() if k != "settings"
    }


def test_standard_benchmarks_of_a_steered_model_are_refused(evaluate, large):
    with pytest.raises(
        ValueError, match=r"evaluate\.harness measures one model's own logits, and decoder proxy_tuning"
    ):
        evaluate("proxy_tuning", large, more={"harness": {"tasks": ["arc_easy"]}})


def test_a_server_with_the_same_weights_gives_the_same_results(evaluate, inputs, tmp_path):
    expected = evaluate()
    results = (tmp_path / "results.parquet").read_bytes()
    with serving_weights(*checkpoints.load(inputs["model"]), name="ours/r0") as server:
        more = {"server": {"url": server.url, "model": "ours/{item}", "concurrency": 2}}
        metrics, answers = evaluate(more=more)
        assert (tmp_path / "results.parquet").read_bytes() == results
        assert len(server.asked) == stage.PROBES + 4  # and the problems
        evaluate(more=more)
        assert len(server.asked) == stage.PROBES + 4 + stage.PROBES
        with pytest.raises(ValueError, match=r"does not serve 'ours/base'\. It lists: 'ours/r0'"):
            evaluate(more=more, item="base")
    assert answers == expected[1]
    assert metrics["settings"]["server"]["model"] == "ours/{item}"


def test_a_server_with_another_model_by_the_name_of_the_measured_one_is_refused(evaluate, inputs):
    with serving_weights(*checkpoints.load(inputs["base"])) as server:
        with pytest.raises(ValueError, match="serves other weights than the measured ones as 'm'"):
            evaluate(more={"server": {"url": server.url, "model": "m"}})
        evaluate(more={"server": {"url": server.url, "model": "m"}}, model=inputs["base"])


def test_samples_of_a_server_are_counted_for_pass_at_k(evaluate, inputs, tmp_path):
    with serving_weights(*checkpoints.load(inputs["model"])) as server:
        more = DRAWN | {"server": {"url": server.url, "model": "m"}}
        metrics, _ = evaluate(more=more)
        assert len({request["seed"] for request in server.asked if request["temperature"] == 1.5}) == 16
    assert sum(metrics["sampled"]["outcomes"].values()) == 16
    assert evaluate(more=DRAWN)[0]["pass@1"] == metrics["pass@1"]


def test_a_steered_model_is_not_on_any_server(evaluate, large):
    with pytest.raises(ValueError, match=r"evaluate\.decoder proxy_tuning combines the log-probabilities"):
        evaluate("proxy_tuning", large, more={"server": {"url": "http://127.0.0.1:9/v1", "model": "m"}})
