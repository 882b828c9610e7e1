"""What is asked for, and what a generator gives: jobs, proposals, and reasons against one."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from tasks.core.records import Decision, Example, Signals, Unfit

Operator = Literal["simplify", "improve", "extend", "edit"]
OPERATORS: Mapping[str, Operator] = {"hard": "simplify", "low": "improve", "sparse": "extend"}
"""By the set that an example was chosen for."""
NO_PYTHON, NO_RULE, PUZZLE, KEPT = "no Python", "no rule applies", "puzzle", "kept by a person"
NOTHING = frozenset({NO_PYTHON, NO_RULE, PUZZLE, KEPT})
"""Reasons for which nothing is proposed at all."""
SUBSTITUTES = ("simplify", "improve")
"""Operators whose results stand in for the example."""


@dataclass(frozen=True)
class Job:
    """One example that something is to be made of."""

    example: Example
    operator: Operator
    hints: tuple[Example, ...] = ()
    """The examples whose prompts are nearest to its own, the nearest first."""


@dataclass(frozen=True)
class Proposal:
    """An example that a generator would have in place of a job's example, or beside it."""

    example: Example
    job: Job
    generator: str
    parents: tuple[str, ...]
    prompt_hash: str = ""
    idle: tuple[str, ...] = ()
    """Programs that its tests must not let pass."""
    decision: Decision | None = None
    """What a person said of it."""


@dataclass(frozen=True)
class Failed:
    """An answer that makes no proposal."""

    job: Job
    generator: str
    why: Unfit
    text: str = ""
    prompt_hash: str = ""


class Generator(Protocol):
    """Who writes."""

    def propose(self, jobs: Sequence[Job], attempt: int) -> Iterable[Proposal | Failed | None]:
        """The proposal of this attempt for each job, in order; None where there is nothing more to try."""


def jobs(examples: Sequence[Example], signals: Sequence[Signals], *, one_each: bool) -> list[Job]:
    """What the signals ask for, in the order of the examples. With `one_each` nothing is rewritten twice: improving comes first."""
    known = {example.id: example for example in examples}
    found = {signal.example: signal for signal in signals}
    return [
        Job(example, operator, tuple(known[near] for near in found[example.id].neighbours if near in known))
        for example in examples
        if example.id in found
        for operator in _operators(found[example.id].chosen, one_each)
    ]


def _operators(chosen: Sequence[str], one_each: bool) -> list[Operator]:
    operators = [operator for name, operator in OPERATORS.items() if name in chosen]
    if one_each and all(operator in operators for operator in SUBSTITUTES):
        operators.remove("simplify")
    return operators
