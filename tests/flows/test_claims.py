"""Verdicts follow from intervals over seeds."""

import math
import statistics

import pytest
from scipy import stats

from flows.claims import Claim


def claim(*per_seed, **others):
    return Claim("c", "m", "k", "run", "found", "open", seeds=len(per_seed), per_seed=per_seed, **others)


@pytest.mark.parametrize(
    ("per_seed", "others", "verdict"),
    [
        ((-0.3, -0.2, -0.25), {}, "reproduced"),
        ((0.3, 0.2, 0.25), {}, "not reproduced"),
        ((-0.094, -0.266, -0.036), {}, "not decidable at this size"),  # all below 0, and yet the next seed may not be
        ((0.3, 0.2, 0.25), {"bound": 0.5}, "reproduced"),
        ((0.37, 0.37, 0.38), {"bound": 0.5, "side": "above"}, "not reproduced"),
        ((0.62, 0.61, 0.63), {"bound": 0.5, "side": "above"}, "reproduced"),
    ],
)
def test_a_verdict_asks_that_the_whole_interval_lie_on_one_side(per_seed, others, verdict):
    assert claim(*per_seed, **others).implied() == verdict


@pytest.mark.parametrize(
    ("per_round", "verdict"),
    [
        ((0.60, 0.62, 0.54, 0.57), "not reproduced"),
        ((0.40, 0.42, 0.44), "reproduced"),
        ((0.51, 0.52, 0.62), "not decidable at this size"),  # all above, and yet the next round may not be
    ],
)
def test_rounds_decide_as_seeds_do(per_round, verdict):
    found = Claim("c", "m", "k", "run", "found", "open", rounds=len(per_round), per_round=per_round, bound=0.5)
    assert found.implied() == verdict
    assert found.detectable() > 0


def test_without_figures_nothing_is_implied():
    assert claim().implied() is None
    assert claim().detectable() is None


def test_one_seed_decides_nothing_and_bounds_no_effect():
    assert claim(-5.0).implied() == "not decidable at this size"
    assert claim(-5.0).detectable() is None


def test_an_effect_of_the_detectable_size_is_seen_four_times_in_five():
    seeds = (0.1, -0.2, 0.4, 0.0, 0.3)
    error = statistics.stdev(seeds) / math.sqrt(5)
    power = stats.nct.sf(stats.t.ppf(0.975, 4), 4, claim(*seeds).detectable() / error)
    assert power == pytest.approx(0.8, abs=1e-6)
