"""Explain how the figures were computed, in the words of the summary, the page and the model card."""

from collections.abc import Iterator, Sequence

from tasks.core.statistics import Bootstrap
from tasks.stages.report.data.comparison import SCORE, Comparison, Row


def legend(comparisons: Sequence[Comparison], bootstrap: Bootstrap) -> str:
    """Return the explanation of the measures that the comparisons have."""
    rows = [row for comparison in comparisons for row in comparison.rows]
    return " ".join([_intervals(bootstrap), *_optional_measures(rows)])


def _intervals(bootstrap: Bootstrap) -> str:
    return (
        f"Brackets hold {100 * bootstrap.confidence:g} % intervals: of losses and differences by a bootstrap over groups of items "
        f"({bootstrap.resamples:,} resamples; a group is a module or a file), of pass@1 exact, for independent tasks. Differences are "
        "paired item by item. "
        "Loss: lower is better. pass@1, the share of tasks whose first answer passes its tests: higher is better."
    )


def _optional_measures(rows: Sequence[Row]) -> Iterator[str]:
    if any("sampled" in row.measure for row in rows):
        yield (
            "Sampled pass@k: the chance that one of k drawn answers passes, without bias from all that were drawn; "
            "its interval is by the bootstrap."
        )
    if any(row.unit == SCORE for row in rows):
        yield (
            "Standard benchmarks: scores of lm-evaluation-harness as it defines them, with intervals from its standard errors; "
            "their differences are not paired."
        )
