"""The aspects under which a model is judged: utility, faithfulness and safety. An aspect without measures is reported as not measured."""

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
"""Aspect → settings that would measure it, in the order of the report."""


class Aspect(NamedTuple):
    """One aspect of a model, with its measures."""

    name: str
    rows: Sequence[Row]

    @property
    def sentence(self) -> str:
        """The names of the measures; without any, a sentence that says so and names a remedy."""
        if self.rows:
            return ", ".join(dict.fromkeys(row.title for row in self.rows))
        return f"{NOT_MEASURED}. {HINTS[self.name]}."


def aspects(comparison: Comparison, config: AspectsConfig) -> list[Aspect]:
    """Return every aspect with its measures. A measure that the settings assign to no aspect is one of utility."""
    named = {"faithfulness": config.faithfulness, "safety": config.safety}
    rows: dict[str, list[Row]] = {name: [] for name in HINTS}
    for row in comparison.rows:
        if row.part in ("", "all") and row.unit != "bits/byte":
            chosen = (name for name, starts in named.items() if row.measure.startswith(starts))
            rows[next(chosen, UTILITY)].append(row)
    return [Aspect(name, measured) for name, measured in rows.items()]
