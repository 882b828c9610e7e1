"""Results of a model on a set of problems: the greedy answer to each (pass@1), and sampled answers (pass@k)."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence

from tasks.core import statistics
from tasks.core.records import PASS, Example, Result
from tasks.engine.inference.generation import Sampling
from tasks.stages.evaluate.config import EvaluateConfig
from tasks.stages.evaluate.grade import Grade
from tasks.stages.evaluate.problem_sets import ProblemSet

Write = Callable[[Sequence[Example], Sampling | None], Sequence[str]]
"""Generates answers to problems: greedy ones without a `Sampling`."""
GradeAnswers = Callable[[Sequence[Example], Sequence[str]], Iterable[Grade]]
"""Returns the grade of each answer."""


def solve(problem_set: ProblemSet, config: EvaluateConfig, write: Write, grade: GradeAnswers) -> list[Result]:
    """Return the result of every problem's greedy answer and, if samples are set, of every sample and of pass@k."""
    answers = write(problem_set.problems, None)
    grades = grade(problem_set.problems, answers)
    first = [
        _answer(problem_set.measure(PASS), problem, answer_grade, text)
        for problem, text, answer_grade in zip(problem_set.problems, answers, grades, strict=True)
    ]
    return first + (_draw(problem_set, config, write, grade) if config.samples else [])


def _draw(problem_set: ProblemSet, config: EvaluateConfig, write: Write, grade: GradeAnswers) -> list[Result]:
    problems = [problem for problem in problem_set.problems for _ in range(config.samples)]
    numbers = list(range(config.samples)) * len(problem_set.problems)
    keys = [f"{config.seed} {problem.id} {number}" for problem, number in zip(problems, numbers, strict=True)]
    answers = write(problems, Sampling(config.temperature, config.top_p, keys))
    drawn = [
        _answer(problem_set.measure(f"sample {number}"), problem, answer_grade, text)
        for problem, number, text, answer_grade in zip(
            problems, numbers, answers, grade(problems, answers), strict=True
        )
    ]
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


def _answer(measure: str, problem: Example, answer_grade: Grade, text: str) -> Result:
    value = float(answer_grade.kind == "passed")
    return Result(
        measure, problem.id, problem.group, problem.tier, value, 1, 1, answer_grade.kind, text, answer_grade.inside
    )
