"""The contents of a report, read and compared."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tasks.core.records import Example, Result
from tasks.core.statistics import Bootstrap
from tasks.stages.report.config import AspectsConfig
from tasks.stages.report.data.aspects import Aspect, aspects
from tasks.stages.report.data.comparison import Comparison
from tasks.stages.report.data.fault_pairs import Faults
from tasks.stages.report.data.loop import Loop
from tasks.stages.report.data.verdict import Verdict


@dataclass(frozen=True)
class Change:
    """A stage whose own inputs differ from those of the champion, or from those of the first of two models."""

    stage: str
    what: Sequence[str]
    """The settings, code and data that differ."""
    effect: Sequence[str]
    """The later stages that change as a result."""


@dataclass(frozen=True)
class Surroundings:
    """Facts of a workspace that no stage may read, since they are not reproducible. They are only on pages that are made on request."""

    telemetry: Mapping[str, Mapping[str, Sequence[tuple[float, float]]]] = field(default_factory=dict)
    """Quantity → model → points of (trained tokens, value)."""
    since: str = ""
    """The model with which `changes` compare, in words; empty if there is none."""
    changes: Sequence[Change] = ()
    machine: Sequence[str] = ()
    """Differences between the machines that made the two models."""
    runs: Sequence[tuple[str, str, str]] = ()
    """For each stage, its name, and the name and the URL of its run in MLflow."""
    runs_hint: str = ""
    """A note that a person needs to open the URLs; may be empty."""
    commit: str = ""
    """The commit that was checked out; empty if it is unknown."""
    changed_since_commit: bool = False
    """True if the files differ from the commit's."""
    command: str = ""
    """The command that makes a page of two models; empty for the workspace's own page, which `ratchet run` makes."""


@dataclass(frozen=True)
class ReportData:
    """Everything that the report shows, before rendering."""

    comparisons: Sequence[Comparison]
    verdicts: Sequence[Verdict]
    leading: str
    """The model whose verdict comes first: that of the selected round, or the last one."""
    results: Mapping[str, Sequence[Result]]
    """Model → its result on every item, the reference first."""
    metrics: Mapping[str, Mapping[str, Any]]
    """Model → the metrics that stage evaluate wrote."""
    courses: Mapping[str, Mapping[str, Any]]
    """Trained model → its `training.json`."""
    settings: Mapping[str, Mapping[str, Any]]
    """Trained model → its settings, by their names in params.yaml."""
    parents: Mapping[str, str]
    """Trained model → the trained model from which it started. Models that started from the base, or from a model that is not shown, are left
    out."""
    faults: Mapping[str, Faults]
    """Round → the pairs of programs whose differences may weight its training."""
    loop: Loop | None
    """The turns that made the later rounds, if there are any."""
    base: Mapping[str, Any]
    """The base's `ratchet.json`."""
    caveat: str
    """A limitation of all figures; may be empty."""
    ingested: Mapping[str, Any]
    """The counts of stage ingest."""
    examples: Mapping[str, Example]
    """Held-out examples by id."""
    text_sources: Mapping[str, str]
    """Held-out text of a corpus by id → its source."""
    bootstrap: Bootstrap
    margin: float
    """Largest rise of the general loss, in nats per token, that still counts as no worse."""
    answers: int
    """Number of tasks whose answers are shown side by side."""
    named_measures: AspectsConfig = field(default_factory=AspectsConfig)
    """The measures of faithfulness and of safety."""
    surroundings: Surroundings = field(default_factory=Surroundings)

    @property
    def lead(self) -> int:
        """Return the index of the leading model's comparison."""
        return next(place for place, one in enumerate(self.comparisons) if one.after == self.leading)

    @property
    def judged(self) -> list[Aspect]:
        """Return the aspects of the leading model, including those that are not measured."""
        return aspects(self.comparisons[self.lead], self.named_measures)

    @property
    def origins(self) -> dict[str, dict[str, int]]:
        """Return the number of examples of each origin by round. Without turns there is one entry, `as read`."""
        if self.loop:
            return self.loop.origins
        examples = sum(row["train"] for row in self.ingested["domains"].values())
        return {"as read": {"expert": examples}} if examples else {}
