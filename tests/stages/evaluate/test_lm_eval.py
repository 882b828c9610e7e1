"""Scores of multiple choice and of exact answers are those that lm-evaluation-harness gave on the same items (lm_eval_numbers.py)."""

import json
from dataclasses import replace
from functools import partial

import pytest

from tasks.core.answers import registry
from tasks.core.answers.base import Row
from tasks.core.records import Message
from tasks.engine.inference import generation, scoring
from tasks.stages.evaluate.checks import likelihood
from tests import tiny as small
from tests.stages.evaluate.lm_eval_numbers import MAX_NEW_TOKENS, NUMBERS

RECORDED = json.loads(NUMBERS.read_text())


@pytest.fixture(scope="module")
def pair(tiny):
    return small.decided(tiny)


def test_choice_acc_and_acc_norm_are_the_harnesss(pair):
    model, tokenizer = pair
    check = registry.parse({"kind": "choice", "options": "options", "answer": "text", "reference": "right"})
    problems = []
    for n, entry in enumerate(RECORDED["choice"]):
        shaped = check.reshape(entry["item"])
        row = small.example(n, prompt=shaped["prompt"], response=shaped["response"])
        problems.append(
            replace(row, tests=registry.tests(check, Row(shaped["prompt"], shaped["response"], entry["item"])))
        )
    results = likelihood.score_options(problems, tokenizer, partial(scoring.losses, model))
    for measure, metric in (("choice acc", "acc"), ("choice acc_norm", "acc_norm")):
        ours = [row.value for row in results if row.measure == measure]
        assert ours == [entry[metric] for entry in RECORDED["choice"]]
        assert 0 < sum(ours) < len(ours), "all alike would hide a mix-up"
    for row, entry in zip((r for r in results if r.measure == "choice acc"), RECORDED["choice"], strict=True):
        logs = [float(line.split()[0]) for line in row.output.splitlines()]
        assert logs == pytest.approx(entry["log_likelihoods"], rel=1e-4)


def test_exact_match_is_the_harnesss(pair):
    prompts = [[Message("user", entry["item"]["question"])] for entry in RECORDED["exact"]]
    responses = generation.respond(*pair[:1], prompts, pair[1], max_new_tokens=MAX_NEW_TOKENS, batch_size=5)
    assert [response.text for response in responses] == [entry["response"] for entry in RECORDED["exact"]]
    for metric, options in (
        ("exact_match", {}),
        ("exact_match, loose", {"ignore_case": True, "ignore_punctuation": True}),
    ):
        check = registry.parse({"kind": "exact"} | options)
        scores = []
        for entry, response in zip(RECORDED["exact"], responses, strict=True):
            read, expected = registry.of(registry.tests(check, Row("", entry["item"]["answer"])))
            scores.append(read.grade(response.text, expected).score)
        assert scores == [entry[metric] for entry in RECORDED["exact"]]
        assert 0 < sum(scores) < len(scores)
