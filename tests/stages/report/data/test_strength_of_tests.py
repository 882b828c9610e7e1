"""Answers to problems with strong tests and with weak ones have a row each, where strength was measured."""

from dataclasses import replace

import pytest

from tasks.core.records import STRONG_PASS
from tasks.core.statistics import DEFAULT
from tasks.stages.report.data.availability import untrusted_passes
from tasks.stages.report.data.comparison import compare
from tasks.stages.report.data.strength_of_tests import sentence, strength_rows
from tests.stages.report.material import answers, human_eval, results


def strength(items, weak, constants=0, strengthened=0):
    records = {item: {"share": 0.4, "weak": item in weak} for item in items}
    return {
        "mean": 0.4, "weak": len(weak), "constants": constants, "strengthened": strengthened, "items": records,
    }  # fmt: skip


BEFORE = results(passed=[True, False, False, False]) + human_eval([False, False])
AFTER = results(passed=[True, True, False, True]) + human_eval([True, False])
COMPARISON = compare(("base", BEFORE), ("r0", AFTER))
TASKS = [first.item for first, _ in COMPARISON.tasks]
HUMAN = [first.item for first, _ in COMPARISON.first_answers if first.item not in TASKS]


def rows(metrics):
    return {
        (row.measure, row.part): (row.items, row.before.value, row.after.value)
        for row in strength_rows(COMPARISON, {"r0": metrics}, DEFAULT)
    }


def test_pass_at_1_is_told_by_the_strength_of_tests():
    metrics = {"strength": strength(TASKS, TASKS[:1]), "human_eval": {"strength": strength(HUMAN, [])}}
    assert rows(metrics) == {
        ("pass@1", "strong tests"): (3, 0.0, pytest.approx(2 / 3)),
        ("pass@1", "weak tests"): (1, 1.0, 1.0),
        ("human_eval pass@1", "strong tests"): (2, 0.0, 0.5),
    }


def test_where_it_was_not_measured_there_is_no_row_and_no_sentence():
    assert rows({}) == {}
    assert sentence({"pass@1": {"all": {}}}) == ""


def test_the_sentence_counts_weak_tests_constants_and_inputs_of_ours():
    metrics = {"strength": strength(TASKS, TASKS[:2], constants=1, strengthened=2)}
    assert sentence(metrics) == (
        "Tests of the held-out tasks notice 40 % of small mistakes in their solutions; those of 2 of 4 are weak (1 of these let a "
        "constant function pass). 2 have further inputs, made by Ratchet from their own, with the outputs of the solution."
    )
    gate_set = {"gate_set": {"strength": strength(TASKS, [])}}
    assert sentence(gate_set).startswith("Tests of the gate set notice 40 %")
    plain = {"human_eval": {"strength": strength(HUMAN, [])}}
    assert sentence(plain).startswith("Tests of HumanEval notice 40 %")
    assert "further inputs" not in sentence(plain)


def test_results_of_the_gate_set_hold_answers_to_strong_tests_again_which_count_once():
    first = [replace(row, inside=True) for row in answers([True, False, False])]
    of_gate = [*first, *(replace(row, measure=STRONG_PASS) for row in first[:2])]
    compared = compare(("v1", of_gate), ("v2", of_gate))
    parts = {row.part: (row.items, row.after.value) for row in compared.rows if row.measure == "pass@1"}
    assert (parts["all"], parts["strong tests"]) == ((3, pytest.approx(1 / 3)), (2, 0.5))
    assert {kind: len(pairs) for kind, pairs in compared.answers.items()} == {"held-out tasks, first answers": 3}
    assert untrusted_passes(compared).endswith(": 1 of v1 and 1 of v2.")
