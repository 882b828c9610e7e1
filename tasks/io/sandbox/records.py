"""Records of the sandbox: cases and limits go in, verdicts come out."""

from dataclasses import dataclass
from typing import Literal

from tasks.core.records import Tests

VerdictKind = Literal[
    "passed", "assertion", "exception", "syntax", "import", "timeout", "memory", "killed", "evaded", "untested"
]
"""`evaded`: the program ended its process, cut its connection, or answered in place of its tests. `untested`: no test ran."""
Isolation = Literal["bubblewrap", "namespaces", "limits", "none"]
Outputs = list[str | None]
"""Printed output of each example of a doctest, in order; None for an example that raised."""


@dataclass(frozen=True)
class Case:
    """One program and the tests it must pass."""

    program: str
    """Python source. It runs as the module `solution` and can import the standard library only."""
    tests: Tests
    """Of kind `doctest` or `script`. Their prelude runs before the program, in the same namespace."""

    def __post_init__(self) -> None:
        if self.tests.kind not in ("doctest", "script"):
            raise ValueError(f"The sandbox runs tests of kind doctest or script; these are of kind {self.tests.kind}.")


@dataclass(frozen=True)
class Limits:
    """Resource limits of one case."""

    wall_s: float = 5.0
    cpu_s: float = 4.0
    """CPU time of each process of the case; the kernel counts whole seconds."""
    memory_mb: int = 512
    """Address space of each process of the case, and memory of all of them together."""
    processes: int = 8
    """Number of processes and threads at the same time, including the first. Level 1 cannot enforce this limit."""
    output_bytes: int = 256 * 1024
    """Printed output of one step: the program, or one example."""
    file_bytes: int = 16 * 1024 * 1024
    """Size of one file; all files of a case together may have four times this size."""


@dataclass(frozen=True)
class Verdict:
    """Result of running a program against its tests."""

    kind: VerdictKind
    executed: int
    """Number of expectations that were tested: doctest examples with expected output, or 1 for a script that ran to its end."""
    detail: str
    """Last line of the error, at most 300 characters, without memory addresses and paths.

    Empty if the program passed.
    """
    inside: bool = False
    """True if some expectation was compared in the program's own process, where the program could tamper with the comparison."""


@dataclass(frozen=True)
class Level:
    """Isolation available on this machine."""

    number: int
    """2: own namespaces, file system and system-call filter. 1: a subprocess with limits. 0: no isolation."""
    name: Isolation
    missing: str = ""
    """Reason why the machine does not reach level 2."""
    remedy: str = ""
    """Command that would enable level 2."""
    walls: tuple[str, ...] = ()
    """Mechanisms that isolate a program from the machine, besides the resource limits."""

    def __str__(self) -> str:
        return f"{self.number} ({': '.join(filter(None, (self.name, ', '.join(self.walls))))})"
