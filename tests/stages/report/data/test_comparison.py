"""Models are compared on the same items, or not at all."""

import math
from dataclasses import replace

import pytest

from tasks.core.records import Result
from tasks.stages.report.data.comparison import Comparison, compare
from tasks.stages.report.data.verdict import compute_verdict
from tests.stages.report.material import answers, drawn, human_eval, losses, results


def compared(before: list, after: list) -> Comparison:
    return compare(("base", before), ("r0", after))


def test_a_loss_is_nats_over_tokens_and_its_difference_is_after_minus_before():
    row = compared(results(domain=2.0), results(domain=1.75)).row("domain")
    assert (row.before.value, row.after.value, row.difference.value) == pytest.approx((2.0, 1.75, -0.25))
    assert (row.items, row.difference.n) == (8, 8)


def test_bits_per_byte_divide_the_same_nats_by_bytes():
    row = compared(results(domain=2.0), results(domain=2.0)).row("domain", unit="bits/byte")
    assert row.before.value == pytest.approx(2.0 * 10 / 40 / math.log(2))


def test_pass_at_1_is_told_by_tier_and_in_all():
    before, after = results(passed=[True, False, False, False]), results(passed=[True, True, False, True])
    by_tier = {row.part: row for row in compared(before, after).rows if row.measure == "pass@1"}
    assert list(by_tier) == ["short", "long", "all"]
    assert [row.items for row in by_tier.values()] == [2, 2, 4]
    assert [row.before.value for row in by_tier.values()] == [0.5, 0, 0.25]
    assert [row.after.value for row in by_tier.values()] == [0.5, 1, 0.75]
    assert by_tier["all"].difference.value == 0.5
    assert by_tier["all"].p == 0.5  # two gained, none lost: 2 / 2^2


def test_one_answer_that_changes_decides_nothing():
    before, after = results(passed=[False] * 48), results(passed=[True] + [False] * 47)
    row = compared(before, after).row("pass@1", "all", "share")
    assert row.difference.value == pytest.approx(1 / 48)
    assert row.difference.low < 0 < row.difference.high
    assert row.p == 1.0


def test_pass_at_k_by_sampling_is_the_mean_of_the_tasks_chances():
    before, after = drawn([0, 1, 2, 4]), drawn([1, 1, 2, 4])
    at_1, at_2 = compared(results() + before, results() + after).rows[-2:]
    assert [row.measure for row in (at_1, at_2)] == ["sampled pass@1", "sampled pass@2"]
    assert (at_1.before.value, at_1.after.value) == pytest.approx((7 / 16, 8 / 16))
    assert at_2.before.value == pytest.approx((0 + 1 / 2 + 5 / 6 + 1) / 4)
    assert at_1.difference.value == pytest.approx(1 / 16)
    assert (at_1.items, at_1.before.n, at_1.test, at_1.p) == (4, 4, "sign_flip", 1.0)


def test_human_eval_has_a_row_of_its_own_with_an_exact_interval_and_comes_last():
    before = results(passed=[True, False]) + human_eval([False] * 8) + drawn([0, 1])
    after = results(passed=[True, False]) + human_eval([True] + [False] * 7) + drawn([2, 1])
    shares = [row for row in compared(before, after).rows if row.unit == "share"]
    assert [row.title for row in shares[-3:]] == ["sampled pass@1", "sampled pass@2", "HumanEval pass@1"]
    assert (shares[-1].before.low, shares[-1].before.high) == pytest.approx((0, 0.369417), abs=1e-6)  # 1 - 0.025^(1/8)
    assert shares[-1].p == 1.0


def test_every_answer_is_of_a_kind():
    rows = results(passed=[True, False]) + human_eval([True]) + drawn([0, 1]) + drawn([3], exam="human_eval ")
    answers = compared(rows, rows).answers
    assert {kind: len(pairs) for kind, pairs in answers.items()} == {
        "held-out tasks, first answers": 2,
        "held-out tasks, drawn answers": 8,
        "HumanEval, first answers": 1,
        "HumanEval, drawn answers": 4,
    }


def test_no_task_leaves_no_row_of_pass_at_1():
    assert all(row.measure != "pass@1" for row in compared(results(), results()).rows)


def test_the_order_of_the_rows_does_not_matter():
    before, after = results(passed=[True, False]), results(domain=1.5, passed=[False, True])
    assert compared(before, after) == compared(before[::-1], after[::-1])


def test_other_items_are_refused_by_name():
    with pytest.raises(ValueError, match=r"same items of domain: 1 .*\(domain 7\).*stage evaluate"):
        compared(results(), [row for row in results() if row.item != "domain 7"])


def test_tasks_that_one_model_was_not_given_are_refused():
    with pytest.raises(ValueError, match="same items of pass@1: 1 "):
        compared(results(passed=[True]), results())


def test_examples_decide_and_texts_where_there_are_none():
    texts = [*losses("domain_text", 2.0), *losses("general", 3.0)]
    assert compared(texts, texts).deciding_loss.measure == "domain_text"
    assert compared(results(), results()).deciding_loss.measure == "domain"
    assert compared(results(), results()).deciding_loss.unit == "nats/token"


def test_a_comparison_without_a_loss_of_the_domain_decides_nothing_there():
    comparison = compared(losses("general", 2.0), losses("general", 2.0))
    assert comparison.deciding_loss is None
    verdict = compute_verdict(comparison, 0.05)
    assert (verdict.here, verdict.elsewhere) == ("not decided", "no worse")
    assert "no loss in the domain, since the test set is empty" in verdict.sentence


def test_models_of_which_nothing_was_measured_are_refused():
    with pytest.raises(ValueError, match="no result of anything: run stage evaluate"):
        compared([], [])


def test_a_corpus_that_was_not_measured_has_no_row():
    without = losses("domain", 2.0)
    assert {row.measure for row in compared(without, without).rows} == {"domain"}


def test_losses_under_different_tokenizers_are_refused():
    other = [row if row.item != "domain 0" else type(row)(**(vars(row) | {"tokens": 11})) for row in results()]
    with pytest.raises(ValueError, match="10 tokens in 40 bytes for base, 11 in 40 for r0"):
        compared(results(), other)


def test_answers_keep_what_the_models_wrote():
    pairs = compared(results() + answers([True], "a"), results() + answers([False], "b")).tasks
    assert [(before.output, after.output) for before, after in pairs] == [("a", "b")]


def test_losses_of_several_tasks_have_a_row_each_below_that_of_all():
    before, after = (
        [replace(row, task=("radio", "routing")[place % 2]) for place, row in enumerate(losses("domain", value))]
        for value in (2.0, 1.5)
    )
    rows = [row for row in compared(before, after).rows if row.unit == "nats/token"]
    assert [row.part for row in rows] == ["", "radio", "routing"]
    assert [row.items for row in rows] == [8, 4, 4]
    assert all(row.difference.value == pytest.approx(-0.5) for row in rows)


def test_answers_that_were_held_against_another_reference_are_refused_by_name():
    """A column that is corrected leaves an item its id; macro-F1 had the first model's references for both."""
    row = Result("labels accuracy", "t0", "g0", None, 1.0, 1, 1, "passed", "x", parsed="x", expected="x")
    other = replace(row, value=0.0, outcome="wrong", expected="y")
    with pytest.raises(
        ValueError, match=r"labels accuracy t0 was compared with 'x' for base and 'y' for r0: .*the same data"
    ):
        compared([row], [other])
    assert compared([row], [replace(row, expected="")]).row("labels accuracy", unit="share")
    locality = replace(row, measure="edit locality")
    assert compared([locality], [replace(locality, expected="y")]).row("edit locality", unit="share")
