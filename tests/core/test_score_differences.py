"""The interval of a difference of scores holds the truth where few items fall far and all others rise a little."""

import numpy as np
import pytest

from tasks.core import statistics
from tests.core.test_statistics import QUICK


@pytest.mark.parametrize(("items", "share", "rise"), [(12, 0.1, 0.1), (30, 0.05, 0.05), (50, 0.03, 0.03)])
@pytest.mark.parametrize("sign", [1, -1])
def test_a_difference_of_scores_holds_the_truth_where_few_fall_far_and_all_others_rise_a_little(
    items, share, rise, sign
):
    rng = np.random.default_rng(0)
    changes = np.where(rng.random((200, items)) < share, -0.9, rise)
    truth = sign * ((1 - share) * rise - share * 0.9)
    estimates = [statistics.score_difference(np.zeros(items), sign * row, None, QUICK) for row in changes]
    assert sum(one.low <= truth <= one.high for one in estimates) >= 190


def test_a_difference_of_scores_that_scatter_evenly_is_no_wider_for_falls_that_were_seen():
    changes = np.random.default_rng(0).normal(0.02, 0.1, (40, 50))
    for row in changes:
        ours, plain = statistics.score_difference(np.zeros(50), row, None, QUICK), statistics.mean(row, None, QUICK)
        assert ours.high - ours.low < 1.2 * (plain.high - plain.low)


def test_scores_that_are_nearly_all_alike_are_not_certain():
    """A judge's ties: resampling alone missed the truth in 35 draws of 100 of ten, and saw no spread in twelve."""
    never = statistics.proportion(0, 12).high
    estimate = statistics.share([0.5] * 12)
    assert (estimate.low, estimate.high) == pytest.approx((0.5 - never / 2, 0.5 + never / 2))
    grouped = statistics.share([0.5] * 24, [str(number // 2) for number in range(24)])
    assert (grouped.low, grouped.high) == (estimate.low, estimate.high)
    rng, how = np.random.default_rng(0), statistics.Bootstrap(resamples=200)
    draws = [rng.choice([0, 0.5, 1], p=[0.02, 0.9, 0.08], size=10) for _ in range(200)]
    assert (
        sum(not share.low <= 0.53 <= share.high for share in (statistics.share(draw, None, how) for draw in draws))
        <= 10
    )
