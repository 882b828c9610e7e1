"""Intervals hold what they promise, and agree with what can be worked out by hand."""

import math
import time
from itertools import combinations

import numpy as np
import pytest
from scipy import special

from benchmarks import intervals as few_groups
from tasks.core import statistics
from tasks.core.statistics import Bootstrap

QUICK = Bootstrap(resamples=600)


def modules(rng: np.random.Generator, num_groups: int) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Losses (2 nats per token in truth), tokens and groups of items whose groups differ more than they do."""
    owners = np.repeat(np.arange(num_groups), rng.integers(1, 9, num_groups))
    tokens = rng.integers(20, 200, len(owners))
    level = 2 + rng.normal(0, 0.3, num_groups)[owners] + rng.normal(0, 0.1, len(owners))
    return tokens * level, tokens, [f"module {owner}" for owner in owners]


def coverage(num_groups: int, trials: int, grouped: bool = True) -> float:
    rng = np.random.default_rng(7)
    hits = 0
    for seed in range(trials):
        nats, tokens, groups = modules(rng, num_groups)
        estimate = statistics.ratio(nats, tokens, groups if grouped else None, Bootstrap(resamples=400, seed=seed))
        hits += estimate.low <= 2 <= estimate.high
    return hits / trials


def test_a_95_percent_interval_over_groups_holds_the_truth_about_95_times_in_100():
    # 600 trials of a 95 % event scatter by 0.9 %; three times that on either side.
    assert 0.923 <= coverage(num_groups=40, trials=600) <= 0.977


@pytest.mark.parametrize("num_groups", [2, 3, 4, 6, 9])
def test_few_groups_cover_as_often_as_many(num_groups):
    # 400 trials of a 95 % event scatter by 1.1 %; Student's interval of uneven groups is rather too wide.
    assert 0.92 <= coverage(num_groups, trials=400) <= 0.995


def test_the_bootstrap_of_few_groups_would_not():
    in_use, bootstrap = few_groups.coverage(3, trials=300)
    assert bootstrap < 0.85
    assert in_use >= 0.93
    assert few_groups.coverage(statistics.FEW, trials=50)[0] == few_groups.coverage(statistics.FEW, trials=50)[1]


def test_taking_the_items_of_a_group_for_independent_is_too_sure():
    assert coverage(num_groups=40, trials=300, grouped=False) < 0.85


def test_a_difference_that_is_zero_in_truth_is_found_about_5_times_in_100():
    rng = np.random.default_rng(3)
    misses = 0
    for seed in range(400):
        nats, tokens, groups = modules(rng, 40)
        after = nats + tokens * rng.normal(0, 0.2, len(nats))
        change = statistics.ratio_difference(nats, after, tokens, groups, Bootstrap(resamples=400, seed=seed))
        misses += not change.low <= 0 <= change.high
    assert 0.02 <= misses / 400 <= 0.085


def test_pairing_cancels_what_makes_items_hard():
    rng = np.random.default_rng(0)
    nats, tokens, groups = modules(rng, 30)
    after = nats - 0.1 * tokens + rng.normal(0, 0.5, len(nats))
    change = statistics.ratio_difference(nats, after, tokens, groups, QUICK)
    alone = statistics.ratio(nats, tokens, groups, QUICK)
    assert change.high - change.low < (alone.high - alone.low) / 10
    assert change.low < -0.1 < change.high


def test_a_ratio_divides_sums_and_does_not_average_ratios():
    assert statistics.ratio([1, 30], [1, 10]).value == pytest.approx(31 / 11)


def test_the_difference_is_after_minus_before():
    assert statistics.ratio_difference([4, 6], [2, 4], [2, 3], None, QUICK).value == pytest.approx(-4 / 5)


def test_two_groups_have_students_interval_of_one_degree_of_freedom():
    estimate = statistics.mean([1, 1, 2, 2], ["a", "a", "b", "b"], QUICK)
    half = 12.706205 * 0.5  # t of one degree, and the standard error of two means that are 1 apart
    assert (estimate.value, estimate.low, estimate.high, estimate.n) == (
        1.5,
        pytest.approx(1.5 - half),
        pytest.approx(1.5 + half),
        2,
    )


def test_a_group_that_outweighs_another_makes_fewer_of_two():
    even, uneven = (statistics.ratio([2 * size, 3], [size, 1], ["a", "b"], QUICK) for size in (1, 4))
    assert uneven.high - uneven.low > 5 * (even.high - even.low)


def test_items_of_equal_value_have_an_interval_without_width():
    estimate = statistics.mean([3, 3, 3], how=QUICK)
    assert (estimate.low, estimate.high) == (3, 3)


def test_one_group_bounds_nothing():
    estimate = statistics.ratio([1, 2], [1, 1], ["a", "a"])
    assert (estimate.value, estimate.low, estimate.high, estimate.n) == (1.5, -math.inf, math.inf, 1)
    assert estimate.record() == {"value": 1.5, "low": None, "high": None, "n": 1}


def test_a_group_without_tokens_weighs_nothing():
    with_empty = statistics.ratio([1, 2, 0], [1, 1, 0], ["a", "b", "c"], QUICK)
    assert with_empty == statistics.ratio([1, 2], [1, 1], ["a", "b"], QUICK)


@pytest.mark.parametrize(("numerators", "denominators"), [([], []), ([1.0], [0.0]), ([1.0], [-1.0])])
def test_nothing_to_divide_by_is_refused(numerators, denominators):
    with pytest.raises(ValueError, match="sum of weights is 0"):
        statistics.ratio(numerators, denominators)


@pytest.mark.parametrize("values", [[math.nan], [math.inf], [[1.0]]])
def test_what_is_no_list_of_finite_numbers_is_refused(values):
    with pytest.raises(ValueError, match="finite numbers"):
        statistics.mean(values)


def test_unequal_lengths_are_refused():
    with pytest.raises(ValueError, match="2 before, 1 after"):
        statistics.ratio_difference([1, 2], [1], [1, 1])
    with pytest.raises(ValueError, match="differ in length"):
        statistics.ratio([1, 2], [1, 1], ["a"])


def test_equal_seeds_give_equal_intervals_and_other_seeds_others():
    nats, tokens, groups = modules(np.random.default_rng(0), 30)
    first, second, other = (statistics.ratio(nats, tokens, groups, Bootstrap(400, seed)) for seed in (0, 0, 1))
    assert first == second
    assert first.value == other.value
    assert first.low != other.low


def test_the_order_of_the_items_does_not_matter():
    nats, tokens, groups = modules(np.random.default_rng(0), 12)
    estimate = statistics.ratio(nats, tokens, groups, QUICK)
    back = statistics.ratio(nats[::-1], tokens[::-1], groups[::-1], QUICK)
    assert (back.value, back.low, back.high) == pytest.approx((estimate.value, estimate.low, estimate.high))


def test_more_confidence_needs_a_wider_interval():
    nats, tokens, groups = modules(np.random.default_rng(0), 30)
    narrow, wide = (statistics.ratio(nats, tokens, groups, Bootstrap(confidence=c)) for c in (0.8, 0.99))
    assert wide.low < narrow.low < narrow.high < wide.high


@pytest.mark.parametrize("wrong", [{"resamples": 0}, {"confidence": 1.0}, {"confidence": 0.0}])
def test_a_bootstrap_that_cannot_be_is_refused(wrong):
    with pytest.raises(ValueError, match="A bootstrap needs"):
        Bootstrap(**wrong)


def test_none_of_n_is_the_rule_that_can_be_solved_by_hand():
    # (1 - p)^n = 0.025 where none of n passed.
    estimate = statistics.proportion(0, 10)
    assert (estimate.value, estimate.low) == (0, 0)
    assert estimate.high == pytest.approx(1 - 0.025**0.1)
    assert statistics.proportion(10, 10).low == pytest.approx(0.025**0.1)


@pytest.mark.parametrize(("passed", "trials"), [(1, 20), (7, 20), (19, 20), (13, 64)])
def test_the_bounds_of_a_proportion_are_where_the_binomial_tails_hold_a_fortieth(passed, trials):
    def tail(p: float, counts: range) -> float:
        return sum(math.comb(trials, k) * p**k * (1 - p) ** (trials - k) for k in counts)

    estimate = statistics.proportion(passed, trials)
    assert tail(estimate.low, range(passed, trials + 1)) == pytest.approx(0.025)
    assert tail(estimate.high, range(passed + 1)) == pytest.approx(0.025)


def test_no_trials_bound_nothing():
    estimate = statistics.proportion(0, 0)
    assert math.isnan(estimate.value)
    assert (estimate.low, estimate.high, estimate.n) == (0, 1, 0)
    assert estimate.record()["value"] is None


@pytest.mark.parametrize(("passed", "trials"), [(3, 2), (-1, 2)])
def test_more_passes_than_trials_are_refused(passed, trials):
    with pytest.raises(ValueError, match="not a proportion"):
        statistics.proportion(passed, trials)


def test_a_difference_of_proportions_counts_gains_and_losses():
    change = statistics.proportion_difference([0, 0, 1, 0], [1, 1, 0, 0], None, QUICK)
    assert change.value == 0.25
    assert -1 <= change.low < change.value < change.high <= 1


def test_no_change_among_n_items_is_no_certainty():
    same = statistics.proportion_difference([0] * 10, [0] * 10, None, QUICK)
    assert (same.value, same.high) == (0, pytest.approx(1 - 0.025**0.1))
    assert same.low == -same.high


def test_one_flip_excludes_no_more_than_mcnemars_test_does():
    for gained, lost in ((1, 0), (5, 0), (6, 0), (9, 1), (9, 2)):
        before = [0] * gained + [1] * lost + [1, 0] * 40
        after = [1] * gained + [0] * lost + [1, 0] * 40
        change = statistics.proportion_difference(before, after, None, QUICK)
        assert change.low <= change.value <= change.high
        assert (change.low > 0) == (statistics.mcnemar(before, after) < 0.05), (gained, lost)


def test_one_group_leaves_a_difference_of_proportions_its_natural_bounds():
    change = statistics.proportion_difference([0, 0], [1, 0], ["a", "a"])
    assert (change.value, change.low, change.high) == (0.5, -1, 1)


def test_mcnemar_counts_only_what_changed():
    # 5 gained, 1 lost: 2 (C(6,0) + C(6,1)) / 2^6.
    before, after = [0] * 5 + [1] + [1, 0], [1] * 5 + [0] + [1, 0]
    assert statistics.mcnemar(before, after) == pytest.approx(14 / 64)
    assert statistics.mcnemar(after, before) == pytest.approx(14 / 64)
    assert statistics.mcnemar([0, 1], [0, 1]) == 1
    assert statistics.mcnemar([0, 1], [1, 0]) == 1


@pytest.mark.parametrize(("gained", "lost"), [(0, 7), (12, 9), (300, 340), (9_000, 9_100)])
def test_mcnemar_is_the_binomial_test_of_however_many_changes_and_takes_no_time(gained, lost):
    began = time.process_time()
    p = statistics.mcnemar([0] * gained + [1] * lost, [1] * gained + [0] * lost)
    assert p == pytest.approx(2 * special.bdtr(min(gained, lost), gained + lost, 0.5), rel=1e-9)
    assert time.process_time() - began < 2, "of a slow machine; each coefficient made anew took twenty"


def test_seeds_have_students_interval():
    estimate = statistics.over_seeds([1.0, 2.0, 3.0])
    half = 4.302653 / 3**0.5  # t of two degrees of freedom, and a standard deviation of 1
    assert (estimate.value, estimate.low, estimate.high, estimate.n) == (
        2.0,
        pytest.approx(2 - half),
        pytest.approx(2 + half),
        3,
    )


@pytest.mark.parametrize("values", [[0.01, 0.01], [0.1 + 0.2, 0.3, 0.3], [0.0, 0.0], [2.0]])
def test_equal_figures_over_seeds_have_no_bounds(values):
    for interval in (statistics.over_seeds, statistics.over_seeds_at_any_time):
        estimate = interval(values)
        assert (estimate.value, estimate.low, estimate.high) == (pytest.approx(values[-1]), -np.inf, np.inf)


def test_two_groups_that_rise_are_no_more_than_two_items_that_do():
    groups = [str(item // 50) for item in range(100)]
    for difference, after in ((statistics.score_difference, 0.3), (statistics.proportion_difference, 1.0)):
        of_groups = difference(np.zeros(100), np.full(100, after), groups)
        of_items = difference(np.zeros(2), np.full(2, after))
        assert (of_groups.low, of_groups.high) == (pytest.approx(of_items.low), pytest.approx(of_items.high))
        assert of_groups.low < 0


def test_a_small_change_makes_a_difference_no_surer_than_none_does():
    before, after = np.full(100, 0.5), np.full(100, 0.5)
    nothing = statistics.score_difference(before, after, None, QUICK)
    after[0] = 0.48
    small = statistics.score_difference(before, after, None, QUICK)
    assert small.high - small.low >= nothing.high - nothing.low


def looks_that_miss(interval, trials=400, most=30):
    """The share of series of seeds, 0 on average in truth, whose interval excludes 0 after some number of them."""
    rng, missed = np.random.default_rng(0), 0
    for values in rng.normal(0, 1, (trials, most)):
        estimates = (interval(values[:number]) for number in range(2, most + 1))
        missed += any(not estimate.low <= 0 <= estimate.high for estimate in estimates)
    return missed / trials


def test_an_interval_that_is_looked_at_after_each_seed_holds_the_truth_at_all_of_them():
    assert looks_that_miss(statistics.over_seeds_at_any_time) <= 0.05
    assert looks_that_miss(statistics.over_seeds) > 0.2


def test_the_p_value_at_any_time_is_below_5_per_cent_where_the_interval_excludes_0():
    for values in np.random.default_rng(0).normal(0.8, 1, (200, 12)):
        interval = statistics.over_seeds_at_any_time(values)
        assert (statistics.p_at_any_time(values) < 0.05) == (not interval.low <= 0 <= interval.high)
    assert statistics.p_at_any_time([0.0, 0.0]) == 1


def test_few_seeds_bound_nothing_at_any_time():
    for values in ([1.0], [1.0, 2.0], [1.0, 2.0, 3.0]):
        estimate = statistics.over_seeds_at_any_time(values)
        assert (estimate.low, estimate.high) == (-math.inf, math.inf)


def test_one_seed_bounds_nothing():
    estimate = statistics.over_seeds([1.5])
    assert (estimate.value, estimate.low, estimate.high) == (1.5, -math.inf, math.inf)


@pytest.mark.parametrize(
    ("samples", "passed", "k", "expected"),
    [(5, 1, 1, 0.2), (5, 2, 2, 0.7), (4, 0, 3, 0.0), (3, 2, 2, 1.0), (10, 3, 10, 1.0), (200, 1, 100, 0.5)],
)
def test_pass_at_k_is_what_can_be_worked_out_by_hand(samples, passed, k, expected):
    assert statistics.pass_at_k(samples, passed, k) == pytest.approx(expected, abs=1e-15)


def test_pass_at_k_is_the_share_of_all_choices_of_k_answers_that_hold_one_that_passed():
    for samples in range(1, 8):
        for passed in range(samples + 1):
            answers = [index < passed for index in range(samples)]
            for k in range(1, samples + 1):
                choices = [any(chosen) for chosen in combinations(answers, k)]
                assert statistics.pass_at_k(samples, passed, k) == pytest.approx(sum(choices) / len(choices))


@pytest.mark.parametrize("chance", [0.05, 0.4])
def test_pass_at_k_has_no_bias_where_the_plain_power_has_one(chance):
    samples, k = 12, 5
    weights = [math.comb(samples, c) * chance**c * (1 - chance) ** (samples - c) for c in range(samples + 1)]
    expected = sum(w * statistics.pass_at_k(samples, c, k) for c, w in enumerate(weights))
    plain = sum(w * (1 - (1 - c / samples) ** k) for c, w in enumerate(weights))
    assert expected == pytest.approx(1 - (1 - chance) ** k)
    assert plain < 1 - (1 - chance) ** k - 0.01


@pytest.mark.parametrize(("samples", "passed", "k"), [(5, 2, 6), (5, 6, 1), (5, 1, 0), (0, 0, 1)])
def test_pass_at_k_of_too_few_samples_is_refused(samples, passed, k):
    with pytest.raises(ValueError, match=f"pass@{k} cannot be estimated from {samples} samples"):
        statistics.pass_at_k(samples, passed, k)


def test_a_share_has_the_interval_of_a_mean_within_0_to_1():
    values, groups = [0.0, 1.0, 0.25, 0.5, 0.9, 0.1], list("aabbcd")
    estimate, mean = statistics.share(values, groups, QUICK), statistics.mean(values, groups, QUICK)
    assert (estimate.value, estimate.n) == (mean.value, 4)
    assert (estimate.low, estimate.high) == (max(mean.low, 0.0), min(mean.high, 1.0))


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_shares_that_are_all_alike_are_as_sure_as_their_groups_are_many(value):
    estimate, exact = statistics.share([value] * 6, list("aabbcd")), statistics.proportion(4 * round(value), 4)
    assert (estimate.low, estimate.high, estimate.n) == (exact.low, exact.high, 4)


@pytest.mark.parametrize("rare", [1, 3, 5])
def test_shares_that_are_nearly_all_alike_are_no_surer_than_the_exact_interval(rare):
    values, exact = [1.0] * rare + [0.0] * (64 - rare), statistics.proportion(rare, 64)
    estimate = statistics.share(values, None, QUICK)
    assert estimate.low <= exact.low
    assert estimate.high >= exact.high
    other = statistics.share([1 - value for value in values], None, QUICK)
    assert (other.low, other.high) == pytest.approx((1 - estimate.high, 1 - estimate.low), abs=0.01)
    small = statistics.share([value / 10 for value in values], None, QUICK)
    assert small.high == pytest.approx(estimate.high / 10, abs=0.002)


def test_a_share_misses_as_seldom_as_promised_where_few_items_pass():
    rng = np.random.default_rng(0)
    held = sum(
        estimate.low <= 0.05 <= estimate.high
        for values in (rng.random((200, 64)) < 0.05).astype(float)
        for estimate in [statistics.share(values, None, QUICK)]
    )
    assert held >= 186


def test_a_difference_of_scores_is_as_sure_as_its_changes_are_alike():
    before = [0.5] * 60
    rose = statistics.score_difference(before, [0.51] * 60, None, QUICK)
    never = statistics.proportion(0, 60).high
    assert (rose.value, rose.low, rose.high) == pytest.approx((0.01, 0.01 * (1 - never) - never, 0.01))
    fell = statistics.score_difference(before, [0.6] * 40 + [0.0] * 20, None, QUICK)
    assert fell.high < 0, "more rose than fell, but the fall is larger"
    few = statistics.score_difference(before, [0.75] * 5 + [0.5] * 55, None, QUICK)
    assert few.low < 0 < few.value, "five rises of five may be chance, as flips of their signs say: 2 of 32"
    assert statistics.score_difference(before, [0.75] * 17 + [0.5] * 43, None, QUICK).low > 0
    same = statistics.score_difference(before, before, None, QUICK)
    assert (same.value, same.high) == (0, statistics.proportion(0, 60).high)
    with pytest.raises(ValueError, match="items of scores are means"):
        statistics.proportion_difference(before, before)


def test_a_standard_error_becomes_students_interval():
    estimate = statistics.from_error(0.5, 0.1, 11)
    assert (estimate.low, estimate.high) == pytest.approx(
        (0.5 - 0.2228139, 0.5 + 0.2228139)
    )  # t of 10 degrees at 97.5 %


@pytest.mark.parametrize(("error", "n"), [(0.0, 50), (0.1, 1)])
def test_no_error_or_one_item_bounds_nothing(error, n):
    estimate = statistics.from_error(0.5, error, n)
    assert (estimate.low, estimate.high) == (-math.inf, math.inf)
