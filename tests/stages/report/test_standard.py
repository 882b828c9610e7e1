"""Scores of standard benchmarks stand side by side with intervals from their standard errors."""

import math

import pytest

from tasks.core.statistics import Bootstrap
from tasks.stages.report.compare import compare
from tasks.stages.report.standard import rows
from tests.stages.report.material import results


def scores(**values):
    """Metrics of a model with these (value, error) on 101 items."""
    return {"harness": {"scores": {k: {"value": v, "error": e, "n": 101} for k, (v, e) in values.items()}}}


def found(before, after):
    return list(rows(compare(("base", results()), ("r0", results())), {"base": before, "r0": after}, Bootstrap()))


def test_a_difference_is_as_unsure_as_both_figures_are():
    (row,) = found(scores(arc=(0.5, 0.03)), scores(arc=(0.6, 0.04)))
    t = 1.983972  # Student's, 100 degrees at 97.5 %
    assert (row.measure, row.unit, row.items) == ("arc", "score", 101)
    assert (row.before.low, row.before.high) == pytest.approx((0.5 - 0.03 * t, 0.5 + 0.03 * t), abs=1e-6)
    assert row.difference.value == pytest.approx(0.1)
    assert row.difference.high - row.difference.value == pytest.approx(0.05 * t, abs=1e-6)


@pytest.mark.parametrize("before", [(0.5, 0.0), (None, 0.0)])
def test_without_an_error_there_is_no_interval(before):
    (row,) = found(scores(arc=before), scores(arc=(0.6, 0.04)))
    assert not math.isfinite(row.before.high)
    assert not math.isfinite(row.difference.high)


def test_models_without_scores_have_no_row():
    assert found({}, {}) == []


def test_scores_of_one_model_alone_are_refused_by_name():
    with pytest.raises(ValueError, match=r"base and r0 have not the same scores \(arc\): run stage evaluate for both"):
        found(scores(arc=(0.5, 0.1)), {})
