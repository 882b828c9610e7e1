"""Tests of paired differences: exact where it can be counted, equal to McNemar's and to SciPy's, honest about errors and power."""

import itertools

import numpy as np
import pytest
from scipy import stats

from tasks.core import paired
from tasks.core.statistics import mcnemar


def test_without_groups_flips_of_right_and_wrong_are_mcnemars_test():
    random = np.random.default_rng(0)
    for _ in range(30):
        before, after = random.integers(0, 2, size=(2, 14))
        assert paired.sign_flip(after - before) == pytest.approx(mcnemar(before, after))


def test_flips_are_those_of_scipys_permutation_test():
    differences = np.random.default_rng(1).normal(0.4, 1, size=10)
    expected = stats.permutation_test(
        (differences, 0 * differences), _mean_difference, permutation_type="samples", n_resamples=np.inf
    )
    assert paired.sign_flip(differences) == pytest.approx(expected.pvalue)


def _mean_difference(first, other, axis=0):
    return np.mean(first, axis=axis) - np.mean(other, axis=axis)


def test_drawn_flips_come_near_the_exact_ones(monkeypatch):
    differences = np.random.default_rng(2).normal(0.5, 1, size=15)
    exact = paired.sign_flip(differences)
    monkeypatch.setattr(paired, "EXACT", 0)
    drawn = paired.sign_flip(differences)
    assert drawn != exact
    assert abs(drawn - exact) < 4 * np.sqrt(exact * (1 - exact) / paired.DRAWS)
    monkeypatch.setattr(paired, "_CHUNK", 1000)
    assert abs(paired.sign_flip(differences) - exact) < 4 * np.sqrt(exact * (1 - exact) / paired.DRAWS)


def test_no_difference_is_no_evidence():
    assert paired.sign_flip([0.0] * 30) == 1.0
    assert paired.sign_flip([0.3] * 50, ["one"] * 50) == 1.0, "one group has two flips, and both are as large"


def test_items_of_one_group_are_flipped_together():
    """Twenty copies of five independent differences are five, not a hundred."""
    differences = np.repeat([0.5, 0.4, 0.6, 0.5, 0.3], 20)
    groups = np.repeat(list("abcde"), 20)
    assert paired.sign_flip(differences) < 0.001
    assert paired.sign_flip(differences, groups) == pytest.approx(2 / 2**5)


def test_under_the_null_hypothesis_five_in_a_hundred_are_below_five_per_cent():
    random = np.random.default_rng(3)
    effects = random.normal(size=(400, 12)).repeat(4, axis=1)
    groups = np.repeat(np.arange(12), 4).astype(str)
    noise = random.normal(0, 0.3, size=effects.shape)
    false = sum(paired.sign_flip(row, groups) < 0.05 for row in effects + noise)
    assert 6 <= false <= 36, "400 trials at 5 % give 20 ± 4.4"


def test_holms_correction():
    assert paired.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert paired.holm([0.6, 0.7]) == [1.0, 1.0]
    assert paired.holm([]) == []
    for p_values in itertools.permutations([0.02, 0.001, 0.3]):
        adjusted = paired.holm(p_values)
        assert adjusted[p_values.index(0.001)] == pytest.approx(0.003)
        assert all(one >= p for one, p in zip(adjusted, p_values, strict=True))


def test_benjamini_and_hochbergs_correction():
    p_values = [0.01, 0.04, 0.03, 0.005, 0.8]
    assert paired.benjamini_hochberg(p_values) == pytest.approx([0.025, 0.05, 0.05, 0.025, 0.8])
    assert paired.benjamini_hochberg(p_values) == pytest.approx(stats.false_discovery_control(p_values))
    assert paired.benjamini_hochberg([]) == []


def test_so_many_items_decide_a_difference_as_often_as_is_promised():
    """Power by simulation: 30 of 100 items change, 21 up and 9 down."""
    differences = [1.0] * 21 + [-1.0] * 9 + [0.0] * 70
    needed = paired.power(differences).items
    random = np.random.default_rng(4)
    decided = 0
    for rose, fell, _ in random.multinomial(needed, [0.21, 0.09, 0.70], size=500):
        decided += mcnemar([0] * rose + [1] * fell, [1] * rose + [0] * fell) < 0.05
    assert 0.74 < decided / 500 < 0.86


def test_power_agrees_with_connors_sample_size():
    """Connor 1987 for discordant shares 0.2 and 0.1: (1.96 √0.3 + 0.8416 √(0.3 − 0.01))² / 0.01 = 233.2, so 234 items."""
    differences = [1.0] * 20 + [-1.0] * 10 + [0.0] * 70
    assert paired.power(differences).items == 234


def test_the_detectable_difference_is_as_large_as_level_and_power_ask():
    differences = np.random.default_rng(0).normal(0.3, 1.0, 400)
    expected = (1.959964 + 0.841621) * differences.std() / 20
    assert paired.power(differences).detectable == pytest.approx(expected)


def test_the_detectable_difference_shrinks_with_the_root_of_the_number():
    few, many = (paired.power([1.0, 0.0, -1.0, 0.0, 0.5] * times).detectable for times in (4, 400))
    assert many == pytest.approx(few / 10)


def test_groups_that_agree_within_need_more_items():
    differences = np.repeat([1.0, 1.0, 0.0, -1.0], 25)
    grouped = paired.power(differences, np.repeat(list("abcd"), 25))
    alone = paired.power(differences)
    assert grouped.items > 20 * alone.items
    assert grouped.detectable == pytest.approx(5 * alone.detectable)


def test_ties_promise_nothing():
    assert paired.power([0.0] * 20) == paired.Power(None, None)
    assert paired.power([0.5] * 20).detectable is None
