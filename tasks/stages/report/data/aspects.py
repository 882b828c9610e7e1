"""The aspects under which a model is judged: its utility, its faithfulness, its safety. One that nothing measured is told as such."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from tasks.stages.report.config import AspectsConfig
from tasks.stages.report.data.comparison import Comparison, Row

UTILITY = "utility"
NOT_MEASURED = "not measured"
HINTS: Mapping[str, str] = {
    UTILITY: "`ratchet run evaluate` measures losses and answers",
    "faithfulness": "`evaluate.harness` with `truthfulqa_mc2`, or `evaluate.facts`, measures some of it",
    "safety": "`evaluate.harness` with `toxigen`, or with tasks of your own that `report.aspects.safety` names, measures some of it",
}
"""Aspect → what would measure it, in the order in which they are told."""


class Aspect(NamedTuple):
    """One aspect of a model, with what was measured of it."""

    name: str
    rows: Sequence[Row]

    @property
    def sentence(self) -> str:
        """The measures in words, or that there are none, with what would do."""
        if self.rows:
            return ", ".join(dict.fromkeys(row.title for row in self.rows))
        return f"{NOT_MEASURED}. {HINTS[self.name]}."


def aspects(comparison: Comparison, config: AspectsConfig) -> list[Aspect]:
    """Return every aspect with its measures; what settings assign to no other is utility."""
    named = {"faithfulness": config.faithfulness, "safety": config.safety}
    rows: dict[str, list[Row]] = {name: [] for name in HINTS}
    for row in comparison.rows:
        if row.part in ("", "all") and row.unit != "bits/byte":
            chosen = (name for name, starts in named.items() if row.measure.startswith(starts))
            rows[next(chosen, UTILITY)].append(row)
    return [Aspect(name, measured) for name, measured in rows.items()]
