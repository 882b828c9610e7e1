"""Hold the reports of `plan`, `status` and `verify`, as records."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from flows.commands._reports import Report
from flows.execution.cost.estimates import Range, StageEstimate
from flows.registry.retrain_log import Retraining
from flows.registry.verification import Check


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


@dataclass(frozen=True)
class PastDecision:
    """A promotion decision, or a rollback."""

    time: str
    """UTC."""
    kind: Literal["decision", "rollback"]
    version: int
    """The candidate, or the version that the rollback put in place."""
    verdict: str | None
    """The gate's; null for a rollback."""
    name: str | None
    """What `models` of params.yaml called the candidate; null for a rollback."""
    reason: str


@dataclass(frozen=True)
class StatusReport(Report):
    """The report of `ratchet status`."""

    champion: int
    """The version in place; 0 if nothing was promoted yet."""
    looks: int
    """Looks at the gate set against the champion."""
    missing: Sequence[str]
    """Times of decisions that the store of versions has and the history lacks."""
    is_committed: bool
    """True if git holds the history as it is."""
    decisions: Sequence[PastDecision]
    retrainings: Sequence[Retraining]


@dataclass(frozen=True)
class VerifyReport(Report):
    """The report of `ratchet verify`."""

    checks: Sequence[Check]

    @property
    def holds(self) -> bool:
        return all(check.holds for check in self.checks)
