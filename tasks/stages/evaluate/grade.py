"""Grade a model's answers: run the program of each with its tests, or have a reasoning answer scored by its verifier."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

from tasks.core.records import Example, Tests
from tasks.core.text.programs import program
from tasks.io.sandbox import Case, Verdict

RunCases = Callable[[Iterable[Case]], Iterator[Verdict]]
Score = Callable[[Tests, str], float]


class Grade(NamedTuple):
    """The grade of one answer."""

    kind: str
    """`passed`, or the way it failed: the kind of the sandbox's verdict, or `wrong` for a reasoning answer."""
    inside: bool = False
    """True if some of its tests were compared in the process that ran its program."""


def grade(examples: Sequence[Example], answers: Sequence[str], run_cases: RunCases, score: Score) -> Iterator[Grade]:
    """Yield the grade of each answer, in order.

    A program passes if it passes its tests in the sandbox (`run_cases`); a reasoning answer passes with the full score.
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
            yield Grade("passed" if score(example.tests, answer) >= 1 else "wrong")
        else:
            verdict = next(verdicts)
            yield Grade(verdict.kind, verdict.inside)
