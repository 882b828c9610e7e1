"""Hold the reports of `compare`, `sweep`, `compare-logs` and `why`, as records."""

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
    """Null if one side diverged."""
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
    """Domain loss by seed, in nats per token; null for a training that diverged, which is left out of all other figures."""
    domain: Interval
    """Domain loss, in nats per token. Intervals are over test items unless another unit is named."""
    gain: Interval
    """Domain loss less the base's; negative is better."""
    against_first: Interval | None
    """Domain loss less that of the first composition, over seeds; null for the first."""
    forgetting: Interval | None
    """General loss less the base's; positive is worse. Null without general texts."""
    passed: Interval | None
    """Share of programs that pass their tests; null if none were run."""
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
    """The least number of trainings that choose learning rates."""
    measured: int
    """Trainings that are measured."""
    tokens: int
    """The least number of tokens of all trainings."""
    seconds: Range | None
    """Time of all trainings; null if there is no estimate."""
    compositions: Sequence[ComparedComposition] | None
    """Null with `--dry`. A composition whose trainings all diverged is left out."""
    diverged: Sequence[str]
    """A sentence for each composition of which trainings diverged, with their seeds."""
    open_ends: Sequence[str]
    """A sentence for each composition whose best learning rate may lie beyond those tried."""
    folder: str | None
    """The folder of the table, the figures of each training and, if every composition has `forgetting`, the plot; null with `--dry`."""


@dataclass(frozen=True)
class SweptPoint:
    """One combination of values."""

    settings: Mapping[str, Any]
    """Setting → value."""
    value: float | None
    """The metric, its mean over seeds; null if a training diverged."""
    by_seed: Sequence[float | None]
    interval: Interval | None
    """The mean with its interval over seeds; null with one seed."""
    against_best: Interval | None
    """The metric less that of the best point, paired by seed; null for the best itself, and with one seed."""
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
    """Trainings that did not exist when the sweep began; with `--sampler tpe`, at most so many."""
    seconds: Range | None
    """Time of these trainings and of the test; null if there is no estimate."""
    points: Sequence[SweptPoint] | None
    """The best first; null with `--dry`."""
    best: Mapping[str, Any] | None
    """The settings of the best; null with `--dry`, and if every point diverged."""
    test: SweptTest | None
    taken: bool
    """True if the best was written into params.yaml."""
    folder: str | None
    """The folder of the table, the page with the picture and the figures; null with `--dry`."""


@dataclass(frozen=True)
class BisectedPart:
    """A group of stages, and their joint effect."""

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
    """Differences between the machines that made the two models."""
    items: Sequence[MeasureChange] | None
    """Null if the gate has not judged both: showing items would be a look at the gate set that is not counted."""
    measured_alike: bool
    """False if the two were measured under different settings of `evaluate`, or in different precisions. No items are compared then."""
    bisection: Sequence[BisectedPart] | None
    """Null without `--bisect`."""
    conclusion: str | None
    """What the bisection found, in a sentence."""


@dataclass(frozen=True)
class LoggedTask:
    """The results of one model on one task, as recorded in a log."""

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
    """Null if the data give no bound."""
    high: float | None
    n: int
    """Independent units behind value and interval."""


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
    """Items needed to decide the observed difference with a chance of 80 %, if it is the true one."""
    detectable: float | None
    """The difference that can be decided with as many items as these."""
    warnings: Sequence[str]
    """Differences between the two logs beside their scores."""
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
    """Tasks and measures that only one log has."""
