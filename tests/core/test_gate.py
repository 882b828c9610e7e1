"""The gate lets through what is better here and no worse elsewhere than anything ever promoted, and is not worn down."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from tasks.core.answers import registry
from tasks.core.promotion import bounds, gate
from tasks.core.promotion.gate import Bar, GateConfig
from tasks.core.records import PREFERENCE, STRONG_PASS, Result

RULES = GateConfig()
SPREAD = 0.02
"""Standard deviation of what an item's loss differs by between two models, in nats per token."""


def losses(measure, level, rng, count=40):
    """An item of 100 tokens in each group."""
    noise = rng.normal(0, SPREAD, count)
    return [
        Result(measure, f"{measure} {n}", f"g{n}", None, 100 * (level + noise[n]), 100, 400, "", "")
        for n in range(count)
    ]


def model(domain, general, seed=0):
    rng = np.random.default_rng(seed)
    return losses("domain", domain, rng) + losses("general", general, rng)


def answers(passed):
    return [
        Result("pass@1", f"t{n}", f"g{n}", None, float(p), 1, 1, "passed" if p else "wrong", "")
        for n, p in enumerate(passed)
    ]


BASE = Bar("base", model(2.0, 3.0))


@pytest.mark.parametrize(
    ("domain", "general", "verdict", "reason"),
    [
        (1.9, 3.0, "promoted", "domain better than base"),
        (1.9, 3.2, "refused", "general worse than base"),
        (2.1, 3.0, "refused", "domain worse than base"),
        (2.0, 3.0, "not decided", "domain not decided than base"),
        (1.9, 3.06, "not decided", "general not decided than base"),
    ],
)
def test_better_here_and_no_worse_elsewhere_is_promoted_and_nothing_else(domain, general, verdict, reason):
    judgement = gate.judge(model(domain, general, 1), BASE, [BASE], 1, RULES)
    assert judgement.verdict == verdict
    assert judgement.reason.startswith(reason.replace(" not decided than", ": not decided against"))


def test_a_loss_that_creeps_up_by_less_than_the_margin_each_time_is_stopped_by_what_was_promoted_before():
    ever = [BASE]
    verdicts = []
    for night in range(
        1, 5
    ):  # each is better here, and worse elsewhere by 0.03 than the one before; the margin is 0.05
        candidate = model(2.0 - 0.1 * night, 3.0 + 0.03 * night, night)
        judgement = gate.judge(candidate, ever[-1], ever, 1, RULES)
        assert (
            gate.judge(candidate, ever[-1], ever[-1:], 1, RULES).verdict == "promoted"
        )  # the last one alone lets it pass
        verdicts.append(judgement.verdict)
        ever.append(Bar(f"version {night}", candidate))
    assert verdicts[0] == "promoted"
    assert set(verdicts[2:]) == {"refused"}


def test_a_bar_that_is_surely_missed_refuses_though_another_is_less_certain():
    candidate = model(1.9, 3.0, 1)
    rng = np.random.default_rng(5)
    sure = Bar("sure", [*BASE.results[:40], *losses("general", 2.9, rng)])  # missed by twice the margin
    scattered = [replace(row, value=row.value + 100 * rng.normal(0, 2)) for row in losses("general", 3.0, rng)]
    vague = Bar("vague", [*BASE.results[:40], *scattered])  # bounds far beyond the margin on both sides
    judgement = gate.judge(candidate, BASE, [sure, vague], 1, RULES)
    assert (judgement.verdict, judgement.checks[1].bar) == ("refused", "sure")
    assert gate.judge(candidate, BASE, [vague], 1, RULES).verdict == "not decided"


def test_a_guarded_measure_that_was_not_measured_lets_nothing_pass():
    candidate = [row for row in model(1.9, 3.0, 1) if row.measure == "domain"]
    judgement = gate.judge(candidate, BASE, [BASE], 1, RULES)
    assert (judgement.verdict, judgement.reason) == ("not decided", "general: not measured against base")


def test_texts_decide_where_there_are_no_examples_and_nothing_else_does():
    rng = np.random.default_rng(0)
    texts = [losses("domain_text", level, rng) + losses("general", 3.0, rng) for level in (2.0, 1.9)]
    bar = Bar("base", texts[0])
    assert gate.judge(texts[1], bar, [bar], 1, RULES).verdict == "promoted"
    with pytest.raises(ValueError, match="no item of domain or domain_text"):
        gate.judge(losses("general", 3.0, rng), bar, [bar], 1, RULES)


def test_only_items_that_both_were_given_under_one_tokenizer_are_compared():
    others = [row for row in model(1.0, 3.0, 1) if row.item != "domain 7"]
    others[0] = Result("domain", "domain 0", "g0", None, 1.0, 99, 400, "", "")
    assert gate.judge(others, BASE, [BASE], 1, RULES).checks[0].items == 38
    assert gate.uncovered(others, BASE) == pytest.approx(1 / 39)
    moved = [row if row.measure == "domain" else replace(row, item=f"new {row.item}") for row in model(1.9, 3.0)]
    assert gate.uncovered(moved, BASE) == 1.0  # however small the measure is beside the others


def test_all_looks_together_spend_alpha():
    assert sum(gate.level(look, 0.05) for look in range(1, 100_000)) == pytest.approx(0.05, rel=1e-4)


def test_what_passed_before_can_be_guarded_too():
    rules = GateConfig(margins={"general": 0.05, "pass@1": 0.1})
    before, after = [True] * 200 + [False] * 200, [True] * 200 + [False] * 200
    bar = Bar("base", [*BASE.results, *answers(before)])
    assert gate.judge([*model(1.9, 3.0, 1), *answers(after)], bar, [bar], 1, rules).verdict == "promoted"
    after[:80] = [False] * 80
    judgement = gate.judge([*model(1.9, 3.0, 1), *answers(after)], bar, [bar], 1, rules)
    assert (judgement.verdict, judgement.checks[-1].worse_by.value) == ("refused", pytest.approx(0.2))


def test_bounds_of_a_ratio_are_students_where_all_weigh_the_same():
    values = np.random.default_rng(0).normal(1, 2, 12)
    estimate = bounds.ratio_bounds(values, np.ones(12), [str(n) for n in range(12)], 0.001)
    expected = stats.t.interval(0.998, 11, values.mean(), stats.sem(values))
    assert (estimate.low, estimate.high) == pytest.approx(expected)


@pytest.mark.parametrize("tail", [0.025, 0.05 / 110])
def test_bounds_over_few_uneven_groups_are_not_too_sure(tail):
    rng, missed, trials = np.random.default_rng(0), 0, 20_000
    sizes, names = np.array([1, 1, 2, 2, 3, 4, 8, 12]), [str(n) for n in range(8)]
    for change in rng.standard_t(4, (trials, 8)):
        missed += bounds.ratio_bounds(change * sizes, sizes, names, tail).high < 0
    assert missed <= tail * trials + 3 * np.sqrt(tail * trials)


def test_bounds_of_rare_changes_are_not_too_sure():
    # Two of a hundred tasks are lost in truth. Where none was seen to be, Student's interval has no width at all.
    rng, missed = np.random.default_rng(0), 0
    for _ in range(1000):
        lost = rng.binomial(1, 0.02, 100)
        missed += bounds.share_bounds(lost, [str(n) for n in range(100)], 0.025).high < 0.02
    assert missed <= 0.025 * 1000 + 3 * np.sqrt(1000 * 0.025)
    nothing = bounds.share_bounds(np.zeros(100), [str(n) for n in range(100)], 0.025)
    assert nothing.high == pytest.approx(1 - 0.0125 ** (1 / 100))


def test_bounds_of_a_share_hold_where_all_items_of_a_group_change_together():
    # Counted by items, a change of a whole group that was not seen was ruled out in up to 64 draws of a hundred.
    rng, names, missed = np.random.default_rng(0), np.repeat([str(n) for n in range(20)], 20), 0
    for _ in range(300):
        lost = np.repeat(rng.random(20) < 0.02, 20).astype(float)
        missed += bounds.share_bounds(lost, names, 0.025).high < 0.02
    assert missed <= 0.025 * 300
    nothing = bounds.share_bounds(np.zeros(400), names, 0.025)
    assert nothing.high == pytest.approx(1 - 0.0125 ** (1 / 20))


@pytest.mark.parametrize("share", [0.005, 0.025, 0.05])
def test_bounds_of_scores_hold_where_few_fall_far_and_others_move_a_little(share):
    # Student's interval alone misses the fall of these in 62, 7 and 14 draws of a hundred: where no far fall was seen, it is as narrow as the small ones.
    rng, names, missed = np.random.default_rng(0), [str(n) for n in range(100)], 0
    for _ in range(1000):
        small = np.where(rng.random(100) < 0.05, rng.normal(0, 0.02, 100), 0.0)
        changes = np.where(rng.random(100) < share, 1.0, small)
        missed += bounds.score_bounds(changes, names, 0.025).high < share
    assert missed <= 0.025 * 1000


def test_a_small_fall_makes_no_bound_surer_than_none_does():
    names, one = [str(n) for n in range(100)], np.zeros(100)
    nothing = bounds.score_bounds(one, names, 0.025)
    one[0] = 0.02
    small = bounds.score_bounds(one, names, 0.025)
    assert small.high >= nothing.high == pytest.approx(1 - 0.025 ** (1 / 100))
    assert small.low <= small.value - nothing.high
    only_far = bounds.score_bounds(np.repeat([1.0, 0.0], [3, 97]), names, 0.025)
    share = bounds.share_bounds(np.repeat([1.0, 0.0], [3, 97]), names, 0.025)
    assert (only_far.low, only_far.high) == (pytest.approx(share.low), pytest.approx(share.high))


def nights(count, seed, worse=(0.0, 0.0)):
    """Return whether any of some nights promotes a candidate that is truly this much worse than the champion."""
    rng = np.random.default_rng(seed)
    champion = losses("domain", 2.0, rng) + losses("general", 3.0, rng)
    bar = Bar("champion", champion)
    for look in range(1, count + 1):
        candidate = losses("domain", 2.0 + worse[0], rng) + losses("general", 3.0 + worse[1], rng)
        if gate.judge(candidate, bar, [bar], look, RULES).verdict == "promoted":
            return True
    return False


def test_forty_nights_that_change_nothing_promote_at_most_one_time_in_twenty():
    promoted = sum(nights(40, seed) for seed in range(100))
    assert promoted <= 5 + 3 * np.sqrt(5)


def test_a_regression_of_twice_the_margin_elsewhere_is_blocked_however_good_it_is_here():
    assert not any(nights(20, seed, (-0.2, 0.1)) for seed in range(10))


def graded(measure, values, parsed=None):
    """Results of a check; `parsed` are the labels that were given, of which the first letter is expected in turn."""
    labels = parsed or [""] * len(values)
    return [
        Result(measure, f"q{n}", f"q{n}", None, float(v), 1, 1, "", "", parsed=label, expected="ab"[n % 2])
        for n, (v, label) in enumerate(zip(values, labels, strict=True))
    ]


def guarded(measure, before, after, margin=0.1):
    """The finding of the gate on one guarded measure."""
    champion = Bar("base", [*BASE.results, *before])
    rules = GateConfig(margins={measure: margin})
    judgement = gate.judge([*model(1.9, 3.0, 1), *after], champion, [champion], 1, rules)
    return judgement.checks[1].finding, judgement


@pytest.mark.parametrize("measure", [*registry.measures(), PREFERENCE, STRONG_PASS])
def test_the_measure_of_a_check_can_be_guarded(measure):
    before = graded(measure, [n % 2 for n in range(400)])
    better = graded(measure, [1 if n % 10 else n % 2 for n in range(400)])
    worse = graded(measure, [0 if n % 3 else n % 2 for n in range(400)])
    assert guarded(measure, before, better)[0] == "no worse"
    finding, judgement = guarded(measure, before, worse)
    assert (finding, judgement.verdict) == ("worse", "refused")
    assert judgement.reason.startswith(f"{measure} worse than base: share -0.3")
    assert guarded(measure, before, before)[0] == "no worse"
    assert guarded(measure, before[:9], before[:9])[0] == "not decided"  # nine equal answers exclude no fall of a tenth
    assert guarded(measure, [], better)[0] == "not measured"


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_candidate_whose_loss_is_no_number_is_refused(value):
    diverged = [replace(row, value=value) if row.item.endswith("3") else row for row in model(1.9, 3.0, 1)]
    judgement = gate.judge(diverged, BASE, [BASE], 1, RULES)
    assert judgement.verdict == "refused"
    assert judgement.reason.startswith("domain worse than base: a value of the candidate is no number")
    assert [check.worse_by.record()["value"] for check in judgement.checks] == [None, None]
    against = gate.Bar("version 3", diverged)
    judgement = gate.judge(model(1.9, 3.0, 1), against, [against], 1, RULES)
    assert judgement.verdict == "promoted"
    assert judgement.reason.startswith(
        "domain better than version 3: a value of version 3 is no number; general no worse"
    )


def test_what_is_measured_is_better_than_what_diverged():
    diverged = [replace(row, value=np.nan) for row in BASE.results]
    change, items = gate.worse_by("domain", BASE.results, diverged, 0.025)
    assert (change.value, change.high, items) == (-np.inf, -np.inf, 40)


def test_answers_that_were_held_against_other_references_do_not_compare():
    """A column that is corrected leaves an item its id, and answers of then their grades."""
    now = [replace(row, expected="4") for row in graded("number accuracy", [1] * 40)]
    then = [replace(row, expected="5", value=0.0) if n < 12 else row for n, row in enumerate(now)]
    assert gate.uncovered(now, Bar("then", then)) == 12 / 40
    change, items = gate.worse_by("number accuracy", now, then, 0.025)
    assert (change.value, items) == (0, 28)


def test_macro_f1_can_be_guarded_by_the_labels_that_were_given():
    right = ["ab"[n % 2] for n in range(400)]
    before = graded("labels accuracy", [1] * 400, [label if n % 4 else "b" for n, label in enumerate(right)])
    better = graded("labels accuracy", [1] * 400, right)
    worse = graded("labels accuracy", [1] * 400, [label if n % 4 < 2 else "a" for n, label in enumerate(right)])
    assert guarded("labels macro-F1", before, better)[0] == "no worse"
    assert guarded("labels macro-F1", better, worse)[0] == "worse"
    assert guarded("labels macro-F1", before, before)[0] == "no worse"


def test_scores_miss_their_bounds_as_seldom_as_the_tail_says():
    rng = np.random.default_rng(0)
    misses = 0
    for _ in range(1000):
        changes = rng.beta(2, 3, 60) - rng.beta(2, 3, 60)
        misses += bounds.score_bounds(changes, [f"g{n}" for n in range(60)], 0.05).low > 0
    assert 25 < misses < 80
