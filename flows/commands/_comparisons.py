"""The reports of `compare`, `sweep`, `compare-logs` and `why`, as records."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from flows.commands._reports import Report
from flows.execution.cost.estimates import Range
from flows.experiments.model_differences import Cause, MeasureChange
from tasks.core import statistics


@dataclass(frozen=True)
class Interval:
    """An estimate with its 95 % interval."""

    value: float | None
    """Null where one side diverged."""
    low: float | None
    high: float | None

    @classmethod
    def of(cls, estimate: statistics.Estimate) -> Self:
        """Return the interval of an estimate."""
        return cls(estimate.value, estimate.low, estimate.high)


@dataclass(frozen=True)
class ComparedComposition:
    """A composition, with means over its seeds."""

    name: str
    rate: float
    """The learning rate chosen on validation."""
    losses: Sequence[float | None]
    """Domain loss by seed, in nats per token; null for a training that diverged, which is in no other figure."""
    domain: Interval
    """Domain loss, in nats per token; intervals are over test items where nothing else is said."""
    gain: Interval
    """Domain loss less the base's; negative is better."""
    against_first: Interval | None
    """Domain loss less that of the first composition, over seeds; null for the first."""
    forgetting: Interval | None
    """General loss less the base's; positive is worse. Null without general texts."""
    passed: Interval | None
    """Share of programs that pass their tests; null where none were run."""
    trainable: int
    """Parameters that train."""
    peak_memory_mb: Sequence[float]
    """By seed."""
    tokens_per_s: Sequence[float]
    """By seed, over the optimizer steps alone."""
    bytes: int
    """Size of the trained model on disk."""


@dataclass(frozen=True)
class CompareReport(Report):
    """The report of `ratchet compare`."""

    name: str
    searches: int
    """Trainings that choose learning rates, at least."""
    measured: int
    """Trainings that are measured."""
    tokens: int
    """Tokens of all trainings, at least."""
    seconds: Range | None
    """Of all trainings; null where nothing is known."""
    compositions: Sequence[ComparedComposition] | None
    """Null with `--dry`. One of which every training diverged is not among them."""
    diverged: Sequence[str]
    """Compositions of which trainings diverged, with their seeds, in words."""
    open_ends: Sequence[str]
    """Compositions whose best learning rate may lie beyond those tried, in words."""
    folder: str | None
    """The folder of the table, the figures of each training and, where all have a forgetting, the plot; null with `--dry`."""


@dataclass(frozen=True)
class SweptPoint:
    """One combination of values."""

    settings: Mapping[str, Any]
    """Setting → value."""
    value: float | None
    """The figure, its mean over seeds; null where a training diverged."""
    by_seed: Sequence[float | None]
    interval: Interval | None
    """The mean with its interval over seeds; null with one seed."""
    against_best: Interval | None
    """The figure less that of the best, paired by seed; null for the best itself, and with one seed."""
    folders: Sequence[str]
    """The folders of its trials, by seed."""


@dataclass(frozen=True)
class SweptTest:
    """The best point on the test set, in nats per token, with seeds averaged; intervals are over test items."""

    loss: Interval
    gain: Interval
    """The loss less the base's; negative is better."""


@dataclass(frozen=True)
class SweepReport(Report):
    """The report of `ratchet sweep`."""

    name: str
    stage: str
    metric: str
    seeds: Sequence[int]
    trainings: int
    """Trainings that were not there when it began; of an optimiser, at most."""
    seconds: Range | None
    """Of these and of the test; null where nothing is known."""
    points: Sequence[SweptPoint] | None
    """The best first; null with `--dry`."""
    best: Mapping[str, Any] | None
    """The settings of the best; null with `--dry`, and where every point diverged."""
    test: SweptTest | None
    taken: bool
    """True if params.yaml was given the best."""
    folder: str | None
    """The folder of the table, the page with the picture and the figures; null with `--dry`."""


@dataclass(frozen=True)
class BisectedPart:
    """Stages, and their effect together."""

    stages: Sequence[str]
    worse_by: Interval
    """The rise of the second model's loss due to them, in nats per token."""
    items: int
    """Test items that it was measured on."""
    is_certain: bool
    """True if the interval excludes zero."""


@dataclass(frozen=True)
class WhyReport(Report):
    """The report of `ratchet why`."""

    before: str
    after: str
    causes: Sequence[Cause]
    machine: Sequence[str]
    """Differences between the machines that made the two."""
    items: Sequence[MeasureChange] | None
    """Null where the gate has not judged both: to show items would be a look at the gate set that nobody counts."""
    bisection: Sequence[BisectedPart] | None
    """Null without `--bisect`."""
    conclusion: str | None
    """Of the bisection, in words."""


@dataclass(frozen=True)
class LoggedTask:
    """The results of one model on one task, as a log has them."""

    task: str
    model: str
    version: str
    """The version of the task; empty if the log has none."""
    items: int
    epochs: int
    """The largest number of scores of one item."""
    remarks: Sequence[str]
    """What the log lacks."""


@dataclass(frozen=True)
class ReadLog:
    """One argument of `ratchet compare-logs`."""

    name: str
    path: str
    harness: str
    tasks: Sequence[LoggedTask]


@dataclass(frozen=True)
class Score:
    """A score with its 95 % interval."""

    value: float
    low: float | None
    """Null where the data bound nothing."""
    high: float | None
    n: int
    """Independent units behind both."""


@dataclass(frozen=True)
class ChangedItem:
    """An item whose scores differ."""

    item: str
    first: float
    other: float


@dataclass(frozen=True)
class ComparedMeasure:
    """One measure of a pair of logs."""

    first: str
    other: str
    task: str
    measure: str
    items: int
    """Items that both logs score."""
    groups: int
    """Independent units among them."""
    first_score: Score
    other_score: Score
    difference: Score
    """The other less the first, paired by item."""
    higher: int
    """Items that the other log scores higher."""
    equal: int
    lower: int
    test: str
    p: float
    p_holm: float
    """Corrected for all comparisons of the command."""
    verdict: str
    """`higher`, `lower`, `open`, or `equal` if no item differs."""
    items_to_decide: int | None
    """Items that decide the observed difference with a chance of 80 %, if it is the true one."""
    detectable: float | None
    """The difference that as many items as these decide."""
    warnings: Sequence[str]
    """What sets the two logs apart beside their scores."""
    changed_items: Sequence[ChangedItem]
    """The largest difference first."""


@dataclass(frozen=True)
class CompareLogsReport(Report):
    """The report of `ratchet compare-logs`."""

    logs: Sequence[ReadLog]
    group: str | None
    """The field that groups items."""
    alpha: float
    """The level of the verdicts, after Holm's correction."""
    comparisons: Sequence[ComparedMeasure]
    """One for each pair of logs and measure."""
    remarks: Sequence[str]
    """Tasks and measures that one log alone has."""
