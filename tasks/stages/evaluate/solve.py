"""Results of a model on a set of problems: the greedy answer to each and, for problems with tests, sampled answers (pass@k)."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence

from tasks.core import statistics
from tasks.core.answers import registry
from tasks.core.answers.base import PASSED, Grade
from tasks.core.records import Example, Result, Tests
from tasks.core.text.programs import program
from tasks.engine.inference.generation import Response, Sampling
from tasks.io.sandbox import Case, Verdict
from tasks.stages.evaluate.checks.judging import NO_VERDICT
from tasks.stages.evaluate.config import EvaluateConfig
from tasks.stages.evaluate.problem_sets import ProblemSet

TRUNCATED = "truncated"
"""The outcome of an answer that was cut off and is not right as it stands, unless the judge gave no verdict on it."""
Write = Callable[[Sequence[Example], Sampling | None], Sequence[Response]]
"""Generates answers to problems: greedy ones without a `Sampling`."""
RunCases = Callable[[Iterable[Case]], Iterator[Verdict]]
Verify = Callable[[Tests, str], Grade]
GradeAnswers = Callable[[Sequence[Example], Sequence[str]], Iterable[Grade]]
"""Returns the grade of each answer."""


def solve(problem_set: ProblemSet, config: EvaluateConfig, write: Write, grade: GradeAnswers) -> list[Result]:
    """Return the result of every problem's greedy answer and, if samples are set, of every sample and of pass@k."""
    responses = write(problem_set.problems, None)
    first = _graded([problem_set.first] * len(responses), problem_set.problems, responses, grade)
    return first + (_draw(problem_set, config, write, grade) if config.samples and not problem_set.check else [])


def _draw(problem_set: ProblemSet, config: EvaluateConfig, write: Write, grade: GradeAnswers) -> list[Result]:
    problems = [problem for problem in problem_set.problems for _ in range(config.samples)]
    numbers = list(range(config.samples)) * len(problem_set.problems)
    keys = [f"{config.seed} {problem.id} {number}" for problem, number in zip(problems, numbers, strict=True)]
    responses = write(problems, Sampling(config.temperature, config.top_p, keys))
    measures = [problem_set.measure(f"sample {number}") for number in numbers]
    drawn = _graded(measures, problems, responses, grade)
    passed = Counter(row.item for row in drawn if row.value)
    return drawn + [
        _chance(problem_set, problem, passed[problem.id], k, config)
        for k in config.ks
        for problem in problem_set.problems
    ]


def _chance(problem_set: ProblemSet, problem: Example, passed: int, k: int, config: EvaluateConfig) -> Result:
    value = statistics.pass_at_k(config.samples, passed, k)
    measure, passes = problem_set.measure(f"sampled pass@{k}"), f"{passed} of {config.samples} passed"
    return Result(measure, problem.id, problem.group, problem.tier, value, 1, 1, passes, "")


def _graded(
    measures: Sequence[str], problems: Sequence[Example], responses: Sequence[Response], grade: GradeAnswers
) -> list[Result]:
    grades = grade(problems, [response.text for response in responses])
    return [
        _result(measure, problem, response, answer_grade)
        for measure, problem, response, answer_grade in zip(measures, problems, responses, grades, strict=True)
    ]


def _result(measure: str, problem: Example, response: Response, answer_grade: Grade) -> Result:
    score, verdict, parsed, inside = answer_grade
    expected, domain, task = "", "", ""
    if problem.tests is not None and problem.tests.kind == "check":
        check, reference = registry.of(problem.tests)
        expected, domain, task = check.shown(reference), problem.domain, problem.task
        if not response.ended and verdict not in (PASSED, NO_VERDICT):
            verdict = TRUNCATED
    return Result(
        measure, problem.id, problem.group, problem.tier, score, 1, 1, verdict, response.text, inside, parsed, expected,
        domain, task,
    )  # fmt: skip


def graded(examples: Sequence[Example], answers: Sequence[str], run_cases: RunCases, verify: Verify) -> Iterator[Grade]:
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
