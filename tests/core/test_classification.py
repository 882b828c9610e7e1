"""Macro-F1 and its intervals, against sklearn and against resampling by hand."""

import random

import numpy as np
import pytest
from sklearn.metrics import f1_score

from tasks.core import classification, statistics
from tasks.core.statistics import Bootstrap


def drawn(count=60, seed=0, skill=0.6):
    draw = random.Random(seed)
    expected = [draw.choice(["a", "a", "a", "b", "c"]) for _ in range(count)]
    predicted = [label if draw.random() < skill else draw.choice(["a", "b", "c", ""]) for label in expected]
    return expected, predicted, [f"g{n // 2}" for n in range(count)]


def test_the_figure_is_sklearns():
    expected, predicted, groups = drawn()
    figure = classification.macro_f1(expected, predicted, groups)
    assert figure.value == pytest.approx(
        f1_score(expected, predicted, labels=["a", "b", "c"], average="macro", zero_division=0)
    )
    assert figure.low < figure.value < figure.high
    assert figure.n == 30


def test_the_interval_is_that_of_resampled_groups():
    expected, predicted, groups = drawn()
    generator = np.random.default_rng(7)
    rows = {group: [n for n, name in enumerate(groups) if name == group] for group in groups}
    values = []
    for _ in range(2000):
        chosen = [n for g in generator.choice(list(rows), len(rows)) for n in rows[g]]
        present = sorted({expected[n] for n in chosen})
        values.append(
            f1_score(
                [expected[n] for n in chosen],
                [predicted[n] for n in chosen],
                labels=present,
                average="macro",
                zero_division=0,
            )
        )
    figure = classification.macro_f1(expected, predicted, groups, Bootstrap(resamples=4000))
    assert (figure.low, figure.high) == pytest.approx(tuple(np.quantile(values, [0.02, 0.98])), abs=0.03)


def test_a_difference_is_paired():
    expected, before, groups = drawn(skill=0.5)
    after = [right if n % 3 else old for n, (right, old) in enumerate(zip(expected, before, strict=True))]
    figure = classification.macro_f1_difference(expected, before, after, groups)
    each = [classification.macro_f1(expected, labels, groups).value for labels in (before, after)]
    assert figure.value == pytest.approx(each[1] - each[0])
    assert figure.low > 0
    bounds = classification.macro_f1_bounds(expected, before, after, groups, 0.025)
    assert bounds.value == pytest.approx(figure.value)
    assert (bounds.low, bounds.high) == pytest.approx((figure.low, figure.high), abs=0.1)
    assert classification.macro_f1_bounds(expected, before, after, groups, 1e-5).low < bounds.low


def test_what_bounds_nothing_says_so():
    expected, before, _ = drawn(10)
    one = classification.macro_f1(expected, before, ["g"] * 10)
    assert (one.low, one.high, one.n) == (0, 1, 1)


def test_no_interval_of_few_groups_leaves_the_figures_that_there_are():
    expected, groups = ["a", "b"] * 20, [f"g{number // 8}" for number in range(40)]
    right = [*expected[:35], *(["c"] * 5)]
    wrong = ["c"] * 40
    figure = classification.macro_f1(expected, right, groups)
    assert (figure.low, figure.high) == pytest.approx((0.488, 1), abs=5e-4), "by Student 1.12"
    rise, fall = (
        classification.macro_f1_difference(expected, *sides, groups) for sides in ((wrong, right), (right, wrong))
    )
    assert (rise.high, fall.low) == (1, -1)
    assert rise.low == pytest.approx(-fall.high) == pytest.approx(-0.073, abs=5e-4), (
        "five groups of five decide nothing"
    )


@pytest.mark.parametrize("num_items", [8, 40])
def test_answers_that_did_not_change_have_the_bounds_of_a_rare_change(num_items):
    expected, before, _ = drawn(num_items)
    groups, never = [f"g{n}" for n in range(num_items)], statistics.proportion(0, num_items).high
    for figure in (
        classification.macro_f1_bounds(expected, before, before, groups, 0.025),
        classification.macro_f1_difference(expected, before, before, groups),
    ):
        assert (figure.value, figure.n) == (0, num_items)
        assert -1.6 * never < figure.low <= -never < never <= figure.high < 1.6 * never


def test_few_labels_that_changed_have_no_narrower_bounds_than_none():
    """One label that is mended shows less of what else may change than its own scatter says."""
    expected = ["a", "b"] * 15
    before, groups = ["b", *expected[1:]], [str(number) for number in range(30)]
    never = statistics.proportion(0, 30).high
    bounds = classification.macro_f1_bounds(expected, before, expected, groups, 0.025)
    assert bounds.low < bounds.value - never
    assert bounds.high > bounds.value + never


def test_few_labels_decide_a_difference_no_sooner_than_mcnemars_test():
    expected, groups = ["a", "b"] * 30, [str(number) for number in range(60)]
    for changed, is_decided in ((4, False), (9, True)):  # p = 0.125 and 0.004
        before = ["c"] * changed + expected[changed:]
        figure = classification.macro_f1_difference(expected, before, expected, groups)
        assert (figure.low > 0) is is_decided
        assert figure.value > 0


def test_bounds_of_labels_are_missed_as_seldom_as_the_tail_says():
    """Of 30 items a tenth gets worse and a twenty-fifth better: macro-F1 falls by 0.06, as accuracy does."""
    rng, misses, groups = np.random.default_rng(0), 0, [str(number) for number in range(30)]
    for _ in range(1000):
        right, was_wrong, draw = rng.integers(0, 2, 30), rng.random(30) < 0.3, rng.random(30)
        before = np.where(was_wrong, 1 - right, right)
        after = np.where(~was_wrong & (draw < 1 / 7), 1 - right, np.where(was_wrong & (draw < 2 / 15), right, before))
        expected, first, second = (list(map(str, labels)) for labels in (right, before, after))
        misses += classification.macro_f1_bounds(expected, first, second, groups, 0.0083).low > -0.06
    assert misses <= 8


def test_the_confusion_matrix_counts_answers_without_a_label():
    assert classification.confusion(["a", "a", "b"], ["a", "", "a"]) == {"a": {"": 1, "a": 1}, "b": {"a": 1}}


@pytest.mark.parametrize("num_items", [6, 40])
def test_answers_that_are_all_wrong_or_all_right_have_at_least_the_bounds_of_a_share(num_items):
    expected, groups = ["a", "b"] * (num_items // 2), [str(number) for number in range(num_items)]
    for predicted, passed in ((["c"] * num_items, 0), (expected, num_items)):
        figure, share = classification.macro_f1(expected, predicted, groups), statistics.proportion(passed, num_items)
        assert (figure.value, figure.n) == (share.value, num_items)
        assert share.low - 0.11 < figure.low <= share.low <= share.high <= figure.high < share.high + 0.11


def rare(rng, correct, count=30):
    """Labels of which two are rare, and the answers of models that know each with the chances given, half of them alike."""
    expected, alike = rng.choice(3, p=[0.9, 0.06, 0.04], size=count), rng.random(count) < 0.5
    draw, other = rng.random(count), (expected + rng.integers(1, 3, count)) % 3
    draws = [draw, np.where(alike, draw, rng.random(count))]
    answers = [
        np.where(one < np.array(right)[expected], expected, other) for one, right in zip(draws, correct, strict=True)
    ]
    return [list(map(str, labels)) for labels in (expected, *answers)]


def test_labels_of_one_or_two_items_do_not_narrow_an_interval():
    """By resampling alone it missed 20 of 100, and the gate's bounds 17 of 100 where 5 were said."""
    correct, rng = ([0.95, 0.5, 0.5], [0.95, 0.8, 0.8]), np.random.default_rng(0)
    expected, before, after = rare(rng, correct, 200_000)
    first, second = (f1_score(expected, labels, average="macro") for labels in (before, after))
    groups, misses = [str(number) for number in range(30)], np.zeros(3)
    for seed in range(200):
        expected, before, after = rare(rng, correct)
        how = Bootstrap(resamples=200, seed=seed)
        rise = classification.macro_f1_difference(expected, before, after, groups, how)
        level = classification.macro_f1(expected, after, groups, how)
        bound = classification.macro_f1_bounds(expected, before, after, groups, 0.05)
        misses += [
            not rise.low <= second - first <= rise.high,
            not level.low <= second <= level.high,
            bound.high < second - first,
        ]
    assert (misses <= 20).all(), misses
