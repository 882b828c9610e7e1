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
