"""Hold the report of `ratchet status` as a record."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from flows.commands._reports import Report
from flows.registry.retrain_log import Retraining


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
