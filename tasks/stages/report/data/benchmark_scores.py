"""Compare the scores of two models on standard benchmarks."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

from tasks.core import statistics
from tasks.core.statistics import Bootstrap, Estimate
from tasks.stages.report.data.comparison import SCORE, Comparison, Row

Metrics = Mapping[str, Any]


def benchmark_rows(comparison: Comparison, metrics: Mapping[str, Metrics], bootstrap: Bootstrap) -> Iterator[Row]:
    """Yield a row for each score of both models. Raises ValueError if one model lacks a score, or has it for another number of items.

    The harness gives standard errors but no items, so the scores are treated as independent. The interval of a difference is then wider than
    that of a paired difference.
    """
    names = comparison.before, comparison.after
    first, second = (metrics[name].get("harness", {}).get("scores", {}) for name in names)
    if first.keys() != second.keys():
        unpaired = ", ".join(sorted(first.keys() ^ second.keys())[:3])
        raise ValueError(
            f"{names[0]} and {names[1]} do not have the same scores ({unpaired}): run stage evaluate for both."
        )
    for name, before in first.items():
        if before["n"] != second[name]["n"]:
            raise ValueError(
                f"{name} was measured on {before['n']:,} items for {names[0]} and {second[name]['n']:,} for {names[1]}: run stage evaluate "
                "for both with the same `evaluate.harness`."
            )
        yield _row(name, before, second[name], bootstrap)


def _row(name: str, before: Metrics, after: Metrics, bootstrap: Bootstrap) -> Row:
    (score_before, error_before), (score_after, error_after) = (_score_and_error(scores) for scores in (before, after))
    error = math.hypot(error_before, error_after) if error_before and error_after else 0.0

    def estimate(value: float, error: float) -> Estimate:
        return statistics.from_error(value, error, before["n"], bootstrap.confidence)

    return Row(
        name,
        "",
        SCORE,
        before["n"],
        estimate(score_before, error_before),
        estimate(score_after, error_after),
        estimate(score_after - score_before, error),
    )


def _score_and_error(scores: Metrics) -> tuple[float, float]:
    """Return score and standard error. The score is NaN if it is not a number, as a perplexity may be."""
    return math.nan if scores["value"] is None else scores["value"], scores["error"]
