"""The reports that commands print with `--json`, as records; docs/generate.py writes their reference.

A field that is a number may be null where it is not known or not finite.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal, Self, TypeVar

R = TypeVar("R")


def convert(record: type[R], source: Any) -> R:
    """Return a record whose fields are those of the same names of another one."""
    return record(**{field.name: getattr(source, field.name) for field in fields(record)})  # type: ignore[arg-type]


@dataclass(frozen=True)
class Problem:
    """One thing that is in the way."""

    where: str
    """The file and line, the setting or the variable that the message names; else the call itself."""
    what: str
    """The first sentence about it: what was found."""
    remedy: str | None
    """The rest of the message: what would do. Null where one sentence says both."""


@dataclass(frozen=True)
class Error:
    """The reason why a command failed."""

    command: str
    """The call."""
    exit_code: int
    message: str
    """The whole message, as it is printed without `--json`."""
    problems: Sequence[Problem]
    """The message taken apart, a problem for each of its lines."""


@dataclass(frozen=True)
class Failure:
    """The output of any command that fails, in place of its report."""

    error: Error

    @classmethod
    def of(cls, command: str, exit_code: int, message: str, problems: Sequence[Problem]) -> Self:
        """Return the record of one error."""
        return cls(Error(command, int(exit_code), message, problems))


class Report:
    """The report of a command."""

    @property
    def holds(self) -> bool:
        """False where a check that the command made does not hold, so that its exit code tells a script."""
        return True


@dataclass(frozen=True)
class Range:
    """The least and the most that is expected."""

    low: float
    high: float


@dataclass(frozen=True)
class Estimate:
    """The resources that a stage is expected to take."""

    seconds: Range
    memory_mb: Range | None
    """MB (2^20 bytes) of memory at its peak."""
    disk_mb: Range | None
    """MB (2^20 bytes) of new files."""
    source: Literal["equal settings", "other settings", "machine speed"]
    """Earlier runs with these settings, earlier runs with others, or the measured speed of this machine."""
    runs: int
    """Earlier runs behind the figures; 0 with `machine speed`."""


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
    estimate: Estimate | None
    """Null for a stage that does not run, and for one of which nothing is known."""


@dataclass(frozen=True)
class PlanReport(Report):
    """The report of `ratchet plan`."""

    stages: Sequence[PlannedStage]
    """In the order of the plan."""
    seconds: Range | None
    """Of all stages with an estimate, one after the other; the least leaves out those that may not run."""


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
class PastRetraining:
    """A retraining."""

    time: str
    """UTC."""
    cause: str
    """`nightly`, `on-drift`, or `by hand`."""
    outcome: str
    reason: str
    seconds: float | None
    """Null while it works, and where its process was ended."""


@dataclass(frozen=True)
class StatusReport(Report):
    """The report of `ratchet status`."""

    champion: int
    """The version in place; 0 where nothing was promoted yet."""
    looks: int
    """Looks at the gate set against it."""
    missing: Sequence[str]
    """Times of decisions that the history lacks and the store of versions has."""
    is_committed: bool
    """True if git holds the history as it is."""
    decisions: Sequence[PastDecision]
    retrainings: Sequence[PastRetraining]


@dataclass(frozen=True)
class Finding:
    """The result of one check of `ratchet doctor`."""

    state: Literal["good", "limited", "blocked"]
    """`blocked`: a run would fail."""
    what: str
    fix: str = ""
    """A command, or an instruction; empty where nothing is to be done."""


@dataclass(frozen=True)
class GpuSupport:
    """The ways in which several GPUs can share the training of a method."""

    family: str
    method: str
    ddp: bool
    fsdp: bool
    reasons: Sequence[str]
    """Against FSDP."""


@dataclass(frozen=True)
class DoctorReport(Report):
    """The report of `ratchet doctor`."""

    findings: Sequence[Finding]
    methods: Sequence[GpuSupport]
    """With `--gpus` each method that trains; else empty."""

    @property
    def holds(self) -> bool:
        return all(finding.state != "blocked" for finding in self.findings)


@dataclass(frozen=True)
class MethodCard:
    """A method."""

    family: str
    name: str
    title: str
    paper: str
    """A link; empty for what no paper stands behind."""
    merges: bool | None
    """True where plain weights can compute the same; null for a method that adds no modules."""
    wraps: str
    """The library class that does the work; empty where the method itself does."""
    claims: str
    """The claims of its paper that were tested, in a few words; empty where none was."""


@dataclass(frozen=True)
class MethodsReport(Report):
    """The report of `ratchet methods`."""

    methods: Sequence[MethodCard]


@dataclass(frozen=True)
class VerifiedFact:
    """The result of one check of `ratchet verify`."""

    holds: bool
    what: str


@dataclass(frozen=True)
class VerifyReport(Report):
    """The report of `ratchet verify`."""

    checks: Sequence[VerifiedFact]

    @property
    def holds(self) -> bool:
        return all(check.holds for check in self.checks)
