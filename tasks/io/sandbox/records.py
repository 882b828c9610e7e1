"""What goes into the sandbox and what comes out."""

from dataclasses import dataclass
from typing import Literal

from tasks.core.records import Tests

Outcome = Literal[
    "passed", "assertion", "exception", "syntax", "import", "timeout", "memory", "killed", "evaded", "untested"
]
"""`evaded`: the program ended its process, cut itself off, or answered in place of its tests."""
Isolation = Literal["bubblewrap", "namespaces", "limits", "none"]
Outputs = list[str | None]
"""What examples printed, one after the other; None where one raised."""


@dataclass(frozen=True)
class Case:
    """One program and the tests it must pass."""

    program: str
    """Python source. It runs as the module `solution` and sees the standard library alone."""
    tests: Tests
    """Of kind `doctest` or `script`. Their prelude runs before the program, in the same namespace."""

    def __post_init__(self) -> None:
        if self.tests.kind not in ("doctest", "script"):
            raise ValueError(f"The sandbox runs tests of kind doctest or script; these are of kind {self.tests.kind}.")


@dataclass(frozen=True)
class Limits:
    """What one case may use."""

    wall_s: float = 5.0
    cpu_s: float = 4.0
    """Of each of its processes; the kernel counts whole seconds."""
    memory_mb: int = 512
    """Address space of each of its processes, and what all of them may hold together."""
    processes: int = 8
    """Processes and threads at once, the first included. Level 1 cannot hold this one."""
    output_bytes: int = 256 * 1024
    """What one step, the program or an example, may print."""
    file_bytes: int = 16 * 1024 * 1024
    """Of one file; all its files together may take four times as much."""


@dataclass(frozen=True)
class Verdict:
    """How a case ended."""

    outcome: Outcome
    executed: int
    """Expectations that were really tried: doctest examples with a `want`, or 1 for a script that ran to its end."""
    detail: str
    """The last line of what went wrong, at most 300 characters, without addresses and paths. Empty where nothing did."""
    inside: bool = False
    """Whether some expectation could only be compared where the program runs, which could have spoilt the comparison."""


@dataclass(frozen=True)
class Level:
    """The isolation that this machine can give."""

    number: int
    """2: own namespaces, file system and system-call filter. 1: a subprocess with limits. 0: nothing."""
    name: Isolation
    missing: str = ""
    """What keeps the machine from level 2."""
    remedy: str = ""
    """The one command that would bring it there."""
    walls: tuple[str, ...] = ()
    """What stands between a program and the machine, beside limits."""

    def __str__(self) -> str:
        return f"{self.number} ({': '.join(filter(None, (self.name, ', '.join(self.walls))))})"
