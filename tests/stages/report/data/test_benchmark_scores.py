"""Scores of standard benchmarks are compared with intervals from their standard errors."""

import math

import pytest

from tasks.core.statistics import Bootstrap
from tasks.stages.report.data.benchmark_scores import benchmark_rows
from tasks.stages.report.data.comparison import compare
from tests.stages.report.material import results


def scores(**values):
    """Return metrics of a model with these (value, error) on 101 items."""
    return {"harness": {"scores": {k: {"value": v, "error": e, "n": 101} for k, (v, e) in values.items()}}}


def rows(before, after):
    comparison = compare(("base", results()), ("r0", results()))
    return list(benchmark_rows(comparison, {"base": before, "r0": after}, Bootstrap()))


def test_a_difference_is_as_unsure_as_both_figures_are():
    (row,) = rows(scores(arc=(0.5, 0.03)), scores(arc=(0.6, 0.04)))
    t = 1.983972  # Student's, 100 degrees at 97.5 %
    assert (row.measure, row.unit, row.items) == ("arc", "score", 101)
    assert (row.before.low, row.before.high) == pytest.approx((0.5 - 0.03 * t, 0.5 + 0.03 * t), abs=1e-6)
    assert row.difference.value == pytest.approx(0.1)
    assert row.difference.high - row.difference.value == pytest.approx(0.05 * t, abs=1e-6)


@pytest.mark.parametrize("before", [(0.5, 0.0), (None, 0.0)])
def test_without_an_error_there_is_no_interval(before):
    (row,) = rows(scores(arc=before), scores(arc=(0.6, 0.04)))
    assert not math.isfinite(row.before.high)
    assert not math.isfinite(row.difference.high)


def test_models_without_scores_have_no_row():
    assert rows({}, {}) == []


def test_scores_of_one_model_alone_are_refused_by_name():
    with pytest.raises(
        ValueError, match=r"base and r0 do not have the same scores \(arc\): run stage evaluate for both"
    ):
        rows(scores(arc=(0.5, 0.1)), {})


def test_scores_on_other_items_are_refused():
    """A smaller `limit` takes the first items, which may be easier."""
    fewer = {"harness": {"scores": {"arc": {"value": 0.6, "error": 0.1, "n": 50}}}}
    with pytest.raises(ValueError, match=r"arc was measured on 101 items for base and 50 for r0: run stage evaluate"):
        rows(scores(arc=(0.5, 0.03)), fewer)
