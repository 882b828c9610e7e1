"""Scores of two models on standard benchmarks, side by side."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

from tasks.core import statistics
from tasks.core.statistics import Bootstrap, Estimate
from tasks.stages.report.compare import SCORE, Comparison, Row

Metrics = Mapping[str, Any]


def rows(comparison: Comparison, metrics: Mapping[str, Metrics], how: Bootstrap) -> Iterator[Row]:
    """A row for each score of both models. Raises ValueError where one of them lacks some.

    The harness gives standard errors and no items, so a difference is that of two independent figures: its interval is wider than
    a paired one's.
    """
    names = comparison.before, comparison.after
    first, second = (metrics[name].get("harness", {}).get("scores", {}) for name in names)
    if first.keys() != second.keys():
        odd = ", ".join(sorted(first.keys() ^ second.keys())[:3])
        raise ValueError(f"{names[0]} and {names[1]} have not the same scores ({odd}): run stage evaluate for both.")
    for name, before in first.items():
        yield _row(name, before, second[name], how)


def _row(name: str, before: Metrics, after: Metrics, how: Bootstrap) -> Row:
    (one, first), (other, second) = (_values(scores) for scores in (before, after))
    both = math.hypot(first, second) if first and second else 0.0

    def estimate(value: float, error: float) -> Estimate:
        return statistics.from_error(value, error, before["n"], how.confidence)

    return Row(
        name, "", SCORE, before["n"], estimate(one, first), estimate(other, second), estimate(other - one, both)
    )  # fmt: skip


def _values(scores: Metrics) -> tuple[float, float]:
    """Score and standard error; a perplexity may be no number."""
    return math.nan if scores["value"] is None else scores["value"], scores["error"]
