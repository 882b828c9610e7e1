"""The contents of a report, read and compared."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tasks.core.records import Example
from tasks.core.statistics import Bootstrap
from tasks.stages.report.data.comparison import Comparison
from tasks.stages.report.data.fault_pairs import Faults
from tasks.stages.report.data.loop import Loop
from tasks.stages.report.data.verdict import Verdict


@dataclass(frozen=True)
class ReportData:
    """All that the report shows, before it is rendered."""

    comparisons: Sequence[Comparison]
    verdicts: Sequence[Verdict]
    metrics: Mapping[str, Mapping[str, Any]]
    """Model → the metrics that stage evaluate wrote."""
    courses: Mapping[str, Mapping[str, Any]]
    """Trained model → its `training.json`."""
    faults: Mapping[str, Faults]
    """Round → the pairs of programs whose differences its training may weigh."""
    loop: Loop | None
    """The turns that made the later rounds, if there are any."""
    base: Mapping[str, Any]
    """The base's `ratchet.json`."""
    caveat: str
    """A limit of the figures that holds for all of them; may be empty."""
    ingested: Mapping[str, Any]
    """The counts of stage ingest."""
    examples: Mapping[str, Example]
    """Held-out examples by id."""
    bootstrap: Bootstrap
    margin: float
    """Nats per token that the general loss may rise and still count as no worse."""
    answers: int
    """Tasks whose answers are shown side by side."""
