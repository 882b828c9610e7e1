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
    """A stage whose own inputs differ from those of the champion, or of the first of two models."""

    stage: str
    what: Sequence[str]
    """The settings, code and data that differ."""
    effect: Sequence[str]
    """The stages that follow from it."""


@dataclass(frozen=True)
class Surroundings:
    """Facts of a workspace that no stage may read, since they do not repeat: on pages that are made on request alone."""

    telemetry: Mapping[str, Mapping[str, Sequence[tuple[float, float]]]] = field(default_factory=dict)
    """Quantity → model → points of (trained tokens, value)."""
    since: str = ""
    """The model that `changes` are counted from, in words; empty where there is none."""
    changes: Sequence[Change] = ()
    machine: Sequence[str] = ()
    """Differences between the machines that made the two."""
    runs: Sequence[tuple[str, str, str]] = ()
    """Of each stage its name, and the name and the address of its run in MLflow."""
    runs_hint: str = ""
    """A note that a person needs to follow the addresses; may be empty."""
    commit: str = ""
    """The commit that was checked out; empty where that is not known."""
    changed_since_commit: bool = False
    """True if the files differ from the commit's."""
    command: str = ""
    """What makes a page of two models; empty of a workspace's own, which `ratchet run` makes."""


@dataclass(frozen=True)
class ReportData:
    """All that the report shows, before it is rendered."""

    comparisons: Sequence[Comparison]
    verdicts: Sequence[Verdict]
    leading: str
    """The model whose verdict comes first: that of the round that was selected, or the last one."""
    results: Mapping[str, Sequence[Result]]
    """Model → its result on every item, the reference first."""
    metrics: Mapping[str, Mapping[str, Any]]
    """Model → the metrics that stage evaluate wrote."""
    courses: Mapping[str, Mapping[str, Any]]
    """Trained model → its `training.json`."""
    settings: Mapping[str, Mapping[str, Any]]
    """Trained model → its settings, by their names in params.yaml."""
    parents: Mapping[str, str]
    """Trained model → the trained model that it began from. One that began from the base, or from another that is not shown, is not named."""
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
    text_sources: Mapping[str, str]
    """Held-out text of a corpus by id → its source."""
    bootstrap: Bootstrap
    margin: float
    """Nats per token that the general loss may rise and still count as no worse."""
    answers: int
    """Tasks whose answers are shown side by side."""
    named_measures: AspectsConfig = field(default_factory=AspectsConfig)
    """The measures of faithfulness and of safety."""
    surroundings: Surroundings = field(default_factory=Surroundings)

    @property
    def lead(self) -> int:
        """Return the place of the leading model's comparison."""
        return next(place for place, one in enumerate(self.comparisons) if one.after == self.leading)

    @property
    def judged(self) -> list[Aspect]:
        """Return the aspects of the leading model, those that nothing measured among them."""
        return aspects(self.comparisons[self.lead], self.named_measures)

    @property
    def origins(self) -> dict[str, dict[str, int]]:
        """Return the number of examples of each origin by round; without turns all are as they were read."""
        if self.loop:
            return self.loop.origins
        examples = sum(row["train"] for row in self.ingested["domains"].values())
        return {"as read": {"expert": examples}} if examples else {}
