"""Records that commands print with `--json`: the error of any command, and the reports of `doctor` and `methods`.

docs/generate.py writes their reference. Reports that need more than the standard library stand in modules that their commands load.
A field that is a number may be null where it is not known or not finite.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Self


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
class SelectorFit:
    """The size of a selector's training of a model."""

    selector: str
    adapter: str
    """`none`, or the adapter that it needs."""
    trains: int | None
    """Numbers that train at some step; null where it cannot train this model."""
    at_once: int | None
    """The most of them that train in one step."""
    optimizer_bytes: int | None
    """Gradients of a step and the state of AdamW."""
    memory_bytes: int | None
    """The most memory of a step in fp32 over one pack of `tune.pack_tokens` tokens: weights, optimizer, and what is kept for going backward."""
    step_bytes: int | None
    """What a step makes of it and gives back."""
    checkpoint_bytes: int | None
    """A checkpoint."""
    saved_bytes: int | None
    """The change alone: an adapter, or indices and values of the weights that differ (`ratchet delta`)."""
    fits: bool | None
    """True if `--memory` is enough; null without it, and where it cannot train this model."""
    reason: str
    """The reason why it cannot train this model; empty where it can."""


@dataclass(frozen=True)
class MethodsReport(Report):
    """The report of `ratchet methods`."""

    methods: Sequence[MethodCard]
    fit: Sequence[SelectorFit] = ()
    """The selectors on the model of `--fit`; empty without it. With `--memory` those that fit come first, the largest before the others."""
    memory_budget_bytes: int | None = None
    """The memory of `--memory`."""
