"""Hold records that commands print with `--json`: the error of any command, and the reports of `doctor` and `methods`.

docs/generate.py writes their reference. Reports that need more than the standard library are in modules that only their commands import.
A numeric field may be null if its value is not known or not finite.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Self


@dataclass(frozen=True)
class Problem:
    """One problem that stops a command."""

    where: str
    """The file and line, the setting or the variable that the message names; otherwise the call itself."""
    what: str
    """The first sentence about it: what was found."""
    remedy: str | None
    """The rest of the message: what would fix it. Null if one sentence says both."""


@dataclass(frozen=True)
class Error:
    """The reason why a command failed."""

    command: str
    """The call."""
    exit_code: int
    message: str
    """The whole message, as it is printed without `--json`."""
    problems: Sequence[Problem]
    """The message split into problems, one for each of its lines."""


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
        """False if a check that the command made does not hold; the exit code then tells a script."""
        return True


@dataclass(frozen=True)
class Finding:
    """The result of one check of `ratchet doctor`."""

    state: Literal["good", "limited", "blocked"]
    """`blocked`: a run would fail."""
    what: str
    fix: str = ""
    """A command, or an instruction; empty if nothing needs to be done."""


@dataclass(frozen=True)
class GpuSupport:
    """The ways in which several GPUs can share the training of a method."""

    family: str
    method: str
    ddp: bool
    fsdp: bool
    reasons: Sequence[str]
    """Reasons why it does not run under FSDP."""


@dataclass(frozen=True)
class DoctorReport(Report):
    """The report of `ratchet doctor`."""

    findings: Sequence[Finding]
    methods: Sequence[GpuSupport]
    """Each method that trains, with `--gpus`; otherwise empty."""

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
    """A link; empty if the method has no paper."""
    merges: bool | None
    """True if its change can be merged into plain weights; null for a method that adds no modules."""
    wraps: str
    """The library class that does the work; empty if the method does it itself."""
    claims: str
    """The claims of its paper that were tested, in a few words; empty if none was."""


@dataclass(frozen=True)
class SelectorFit:
    """The size of training a model with a selector: numbers that train, and bytes."""

    selector: str
    adapter: str
    """`none`, or the adapter that it needs."""
    trains: int | None
    """Numbers that train at any step; null if it cannot train this model."""
    at_once: int | None
    """The most numbers that train in one step."""
    optimizer_bytes: int | None
    """Bytes of the gradients of a step and of AdamW's state."""
    memory_bytes: int | None
    """Peak memory of a step in fp32 over one pack of `tune.pack_tokens` tokens: weights, optimizer, activations of the backward pass."""
    step_bytes: int | None
    """The part of it that a step allocates and frees."""
    checkpoint_bytes: int | None
    """The size of a checkpoint."""
    saved_bytes: int | None
    """The size of the change alone: an adapter, or indices and values of the weights that differ (`ratchet delta`)."""
    fits: bool | None
    """True if `--memory` is enough; null without `--memory`, and if it cannot train this model."""
    reason: str
    """The reason why it cannot train this model; empty if it can."""


@dataclass(frozen=True)
class MethodsReport(Report):
    """The report of `ratchet methods`."""

    methods: Sequence[MethodCard]
    fit: Sequence[SelectorFit] = ()
    """Selectors on the model of `--fit`; empty without it. With `--memory`, those that fit come first, the largest before the others."""
    memory_budget_bytes: int | None = None
    """The memory given by `--memory`."""
