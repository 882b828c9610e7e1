"""Records of a refinement: jobs, proposals, failed proposals; and the protocol of the generators that make proposals."""

from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Literal, Protocol

from tasks.core.records import Decision, Example, Signals, Unfit

Operator = Literal["simplify", "improve", "extend", "add", "edit"]
OPERATORS: Mapping[str, Operator] = {"hard": "simplify", "low": "improve", "sparse": "extend"}
"""Set for which an example was chosen → operator."""
IMPROVED = "low"
"""The set to which a flagged example belongs."""
NO_PYTHON, NO_RULE, PUZZLE, KEPT = "no Python", "no rule applies", "puzzle", "kept by a person"
NO_REQUEST, TOOLS = "no request", "tools"
NOT_PROPOSED = frozenset({NO_PYTHON, NO_RULE, PUZZLE, NO_REQUEST, TOOLS, KEPT})
"""Reasons why nothing is proposed at all."""
PROPOSING: tuple[Operator, ...] = (*OPERATORS.values(), "add")
"""The operators of proposals; the other operators are decisions of people."""
REPLACING = ("simplify", "improve")
"""Operators whose results replace the example."""


@dataclass(frozen=True)
class Job:
    """An example and the operator to apply to it."""

    example: Example
    operator: Operator
    hints: tuple[Example, ...] = ()
    """The examples whose prompts are nearest to its own, the nearest first."""


@dataclass(frozen=True)
class Proposal:
    """An example that a generator proposes in place of a job's example, or beside it."""

    example: Example
    job: Job
    generator: str
    parents: tuple[str, ...]
    prompt_hash: str = ""
    wrong_programs: tuple[str, ...] = ()
    """Programs that its tests must reject."""
    decision: Decision | None = None
    """A person's decision about it."""


@dataclass(frozen=True)
class Failed:
    """An answer from which no proposal could be made."""

    job: Job
    generator: str
    why: Unfit
    text: str = ""
    prompt_hash: str = ""


class Generator(Protocol):
    """Makes proposals: by rule, or by prompting a model."""

    def propose(self, jobs: Sequence[Job], attempt: int) -> Iterable[Proposal | Failed | None]:
        """Return this attempt's proposal for each job, in order; None if there is nothing more to try."""


def create_jobs(
    examples: Sequence[Example], signals: Sequence[Signals], flagged: Set[str], *, one_each: bool
) -> list[Job]:
    """Create the jobs for the examples that the diagnosis chose or a person flagged, in their order.

    A flagged example is improved. With `one_each` no example is rewritten twice: improving comes before simplifying.
    """
    by_id = {example.id: example for example in examples}
    chosen_of = {signal.example: set(signal.chosen) for signal in signals}
    near_of = {signal.example: signal.neighbours for signal in signals}
    return [
        Job(example, operator, tuple(by_id[near] for near in near_of.get(example.id, ()) if near in by_id))
        for example in examples
        for operator in _operators(
            chosen_of.get(example.id, set()) | ({IMPROVED} if example.id in flagged else set()), one_each
        )
    ]


def _operators(chosen: Set[str], one_each: bool) -> list[Operator]:
    operators = [operator for name, operator in OPERATORS.items() if name in chosen]
    if one_each and all(operator in operators for operator in REPLACING):
        operators.remove("simplify")
    return operators
