"""Facts of a generated world are written into a model, and what it then tells is counted."""

import json
import math
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from tasks.core.training import Training
from tasks.io.facts_file import Fact, read
from tests import tiny as small

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))

import edits  # noqa: E402
import facts  # noqa: E402

ORDERS = [("breadth", 0), ("depth", 7), ("passes", 7)]
"""The steps that each is told: those of breadth-first, which is searched before it has any."""
BEST = {"breadth": 0.9, "depth": 0.1, "passes": 0.3}
TRIED = {"breadth": [0.1, 0.3, 0.9, 2.7], "depth": [0.1, 0.3, 0.0333], "passes": [0.1, 0.3, 0.9]}
"""A search between 0.1 and 0.3 goes on beyond, until the best lies between two others."""
PLAN = Training(
    adapter="none", selector="locft_bf", objective="mftcoder", pack_tokens=512, epochs=81, warmup=0.0, floor=0.01, clip=1e6,
    schedule="constant_with_warmup", max_tokens=10**6,
)  # fmt: skip
SECTIONS = {
    "none": {},
    "adamw": {"learning_rate": 0.01},
    "mftcoder": {"aggregation": "case2"},
    "locft_bf": {"layer": 1, "module": ""},
    "lora": {},
}


def test_the_profiles_facts_are_those_of_the_generator_and_no_question_is_asked_twice():
    expected = facts.world(facts.COUNT, facts.SEED)
    assert read(ROOT / "params/edits-data/facts.jsonl") == expected
    questions = [text for fact in expected for text in (fact.prompt, fact.rephrase, fact.locality)]
    assert len(set(questions)) == 3 * len(expected)
    assert facts.world(10, facts.SEED) == expected[:10]
    assert facts.world(10, 1) != expected[:10]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"prompt": " "}, "facts.jsonl, fact 2: prompt is empty"),
        ({"prompt": "A?", "completion": "no"}, "facts.jsonl, facts 1 and 2 answer 'A\\?' by 'yes' and by 'no'"),
    ],
)
def test_facts_that_cannot_be_written_are_refused_in_one_sentence(tmp_path, changes, message):
    one = {"prompt": "A?", "completion": "yes", "rephrase": "A, then?", "locality": "B?"}
    path = tmp_path / "facts.jsonl"
    path.write_text("\n".join(map(json.dumps, (one, {**one, "prompt": "C?"} | changes))))
    with pytest.raises(ValueError, match=message):
        read(path)


def test_a_fact_without_a_key_is_refused(tmp_path):
    path = tmp_path / "facts.jsonl"
    path.write_text('{"prompt": "A?"}')
    with pytest.raises(ValueError, match="a fact has the keys prompt, completion, rephrase and locality"):
        read(path)


def test_facts_are_written_in_both_orders_in_equal_steps(tiny):
    world = facts.world(3, 0)
    breadth = edits.edit(tiny, world, "breadth", PLAN, SECTIONS, small.FP32)
    depth = edits.edit(tiny, world, "depth", PLAN, SECTIONS, small.FP32, steps=breadth["steps"])
    assert 60 < breadth["steps"] <= 81, "those below the floor are none"
    assert depth["steps"] <= breadth["steps"]
    for result in (breadth, depth):
        assert result["general"] != 0
        assert len(result["by fifth"]) == 3
        assert sum(result["by fifth"]) / 3 == pytest.approx(result["prompt"], abs=1e-3)
    assert breadth["prompt"] == 1.0, "all facts are told"
    assert breadth["prompt"] >= depth["prompt"]


@pytest.mark.parametrize("steps", [7, 2])
def test_steps_that_do_not_divide_by_the_facts_are_made_all_the_same(tiny, monkeypatch, steps):
    trained, train = [], edits.train.train

    def noted(model, data, parts, plan, compute, work):
        trained.append(plan.epochs)
        return train(model, data, parts, plan, compute, work)

    monkeypatch.setattr(edits.train, "train", noted)
    plan = PLAN.model_copy(update={"floor": 0.0})
    result = edits.edit(tiny, facts.world(3, 0), "depth", plan, SECTIONS, small.FP32, steps=steps)
    assert trained == ([3, 2, 2] if steps == 7 else [1, 1])
    assert result["steps"] == steps


@pytest.fixture
def command(tiny, tmp_path, monkeypatch):
    """Run the benchmark, whose trainings are not made, and return what was to be trained: order, seed, rate, steps and facts."""
    monkeypatch.chdir(tmp_path)
    calls = []

    def edit(base, facts, order, tune, methods, compute, steps):
        rate = methods["adamw"]["learning_rate"]
        calls.append((order, tune.seed, rate, steps, len(facts)))
        return {"prompt": -abs(math.log(rate / BEST[order])), "steps": 7}

    monkeypatch.setattr(edits, "edit", edit)
    config = SimpleNamespace(
        tune=PLAN, methods=SECTIONS, compute=small.FP32, model_dump=lambda mode: {"floor": PLAN.floor}
    )
    monkeypatch.setattr(edits.configuration, "load", lambda: None)
    monkeypatch.setattr(edits.configuration, "for_stage", lambda stage, loaded: config)
    monkeypatch.setattr(edits, "BASE", tiny)
    world = tmp_path / "facts.jsonl"
    world.write_text("\n".join(json.dumps(vars(fact)) for fact in facts.world(2, 0)))

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["edits.py", *arguments, "--facts", str(world)])
        edits.main()
        return calls

    return run


def test_learning_rates_are_searched_alike_and_figures_are_kept(command, tmp_path):
    for _ in range(2):
        calls = command("--rates", "0.1", "0.3", "--seeds", "0", "1")
    searches = [(order, edits.SEARCH, rate, steps, 2) for order, steps in ORDERS for rate in TRIED[order]]
    runs = [(order, seed, BEST[order], 7, 2) for seed in (0, 1) for order, _ in ORDERS]
    assert calls == searches + runs, "the second call takes all from their files"
    figures = json.loads((tmp_path / ".ratchet/compare/edits/figures.json").read_text())
    assert [(row["composition"], row["seed"], row["learning_rate"]) for row in figures] == [run[:3] for run in runs]


def test_success_over_the_number_of_edits_is_that_of_each_number_anew(command, tmp_path, capsys):
    calls = command("--rates", "0.1", "--orders", "depth", "--count", "1", "2")
    assert calls == [(order, 0, 0.1, steps, count) for count in (1, 2) for order, steps in ORDERS[:2]], (
        "no rate is searched"
    )
    figures = json.loads((tmp_path / ".ratchet/compare/edits-by-number/figures.json").read_text())
    assert [(row["composition"], row["facts"]) for row in figures] == [(call[0], call[4]) for call in calls]
    with pytest.raises(SystemExit):
        command("--count", "3")
    assert "--count is 3, and" in capsys.readouterr().err


def test_writing_one_by_one_into_an_adapter_is_refused(tiny):
    plan = PLAN.model_copy(update={"adapter": "lora"})
    with pytest.raises(ValueError, match="Facts are written one by one into plain weights, and adapter is lora"):
        edits.edit(tiny, facts.world(2, 0), "depth", plan, SECTIONS, small.FP32)


def test_an_answer_is_right_but_for_case_and_punctuation():
    fact = Fact("A?", "New York", "", "")
    assert edits.is_right("new york.", fact)
    assert not edits.is_right("New York City", fact)
