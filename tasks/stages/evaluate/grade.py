"""Grade a model's answers: run the program of each with its tests, or have another answer graded by its verifier."""

from collections.abc import Callable, Iterable, Iterator, Sequence

from tasks.core.answers.base import PASSED, Grade
from tasks.core.records import Example, Tests
from tasks.core.text.programs import program
from tasks.io.sandbox import Case, Verdict

RunCases = Callable[[Iterable[Case]], Iterator[Verdict]]
Verify = Callable[[Tests, str], Grade]


def grade(examples: Sequence[Example], answers: Sequence[str], run_cases: RunCases, verify: Verify) -> Iterator[Grade]:
    """Yield the grade of each answer, in order.

    A program passes if it passes its tests in the sandbox (`run_cases`); `verify` grades puzzles and answers with a check.
    """
    pairs = [(example.tests, answer) for example, answer in zip(examples, answers, strict=True)]
    verdicts = run_cases(
        Case(program=program(answer), tests=tests)
        for tests, answer in pairs
        if tests is not None and tests.run_programs
    )
    for tests, answer in pairs:
        assert tests is not None, "only examples with tests are solved"
        if tests.run_programs:
            verdict = next(verdicts)
            yield Grade(float(verdict.kind == PASSED), verdict.kind, inside=verdict.inside)
        else:
            yield verify(tests, answer)
