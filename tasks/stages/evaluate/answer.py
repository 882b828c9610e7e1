"""What a model's answer is worth: its program taken out of the text, run with its tests, or scored by its verifier."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

from tasks.core.programs import program
from tasks.core.records import Example, Tests
from tasks.io.sandbox import Case, Verdict

RunCases = Callable[[Iterable[Case]], Iterator[Verdict]]
Score = Callable[[Tests, str], float]


class Mark(NamedTuple):
    """What an answer is worth."""

    outcome: str
    """`passed`, or how it failed."""
    inside: bool = False
    """Whether some of its tests were compared where its program runs."""


def judge(examples: Sequence[Example], answers: Sequence[str], run_cases: RunCases, score: Score) -> Iterator[Mark]:
    """The mark of each answer, in order.

    Programs pass by their tests in the sandbox (`run_cases`); answers of reasoning tasks pass with the full score.
    """
    pairs = list(zip(examples, answers, strict=True))
    verdicts = run_cases(
        Case(program=program(answer), tests=example.tests)
        for example, answer in pairs
        if example.tests is not None and example.tests.kind != "answer"
    )
    for example, answer in pairs:
        assert example.tests is not None, "only examples with tests are solved"
        if example.tests.kind == "answer":
            yield Mark("passed" if score(example.tests, answer) >= 1 else "wrong")
        else:
            verdict = next(verdicts)
            yield Mark(verdict.outcome, verdict.inside)
