"""Hold the report of `ratchet plan` as a record."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from flows.commands._reports import Report
from flows.execution.cost.estimates import Range, StageEstimate


@dataclass(frozen=True)
class PlannedStage:
    """The forecast for one stage."""

    stage: str
    """The stage as DVC names it, `tune@r0`."""
    state: Literal["run", "restored", "unchanged", "may change"]
    why: Sequence[str]
    """The reasons."""
    upstream: Sequence[str]
    """The stages that it reads from."""
    host: str | None
    """The host that would run it; null for this machine."""
    estimate: StageEstimate | None
    """Null for a stage that does not run, and for a stage without an estimate."""


@dataclass(frozen=True)
class PlanReport(Report):
    """The report of `ratchet plan`."""

    stages: Sequence[PlannedStage]
    """In the order of the plan."""
    seconds: Range | None
    """Time of all stages with an estimate, one after the other; its low end leaves out stages that may not run."""
