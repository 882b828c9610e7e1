"""What a model answers to the tasks of an exam, once greedily and several times by chance, and what its answers are worth."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence

from tasks.core import statistics
from tasks.core.records import Example, Result
from tasks.engine.generation import Sampling
from tasks.stages.evaluate.answer import Mark
from tasks.stages.evaluate.exams import Exam
from tasks.stages.evaluate.params import EvaluateParams

Write = Callable[[Sequence[Example], Sampling | None], Sequence[str]]
"""Answers to tasks, greedy without a sampling."""
Judge = Callable[[Sequence[Example], Sequence[str]], Iterable[Mark]]
"""What each answer is worth."""


def solve(exam: Exam, params: EvaluateParams, write: Write, judge: Judge) -> list[Result]:
    """The first answer to every task; then, where samples are drawn, every one of them and each task's pass@k."""
    answers = write(exam.tasks, None)
    marks = judge(exam.tasks, answers)
    first = [
        _answer(exam.measure("pass@1"), task, mark, text)
        for task, text, mark in zip(exam.tasks, answers, marks, strict=True)
    ]
    return first + (_draw(exam, params, write, judge) if params.samples else [])


def _draw(exam: Exam, params: EvaluateParams, write: Write, judge: Judge) -> list[Result]:
    tasks = [task for task in exam.tasks for _ in range(params.samples)]
    numbers = list(range(params.samples)) * len(exam.tasks)
    keys = [f"{params.seed} {task.id} {number}" for task, number in zip(tasks, numbers, strict=True)]
    answers = write(tasks, Sampling(params.temperature, params.top_p, keys))
    drawn = [
        _answer(exam.measure(f"sample {number}"), task, mark, text)
        for task, number, text, mark in zip(tasks, numbers, answers, judge(tasks, answers), strict=True)
    ]
    passed = Counter(row.item for row in drawn if row.value)
    return drawn + [_chance(exam, task, passed[task.id], k, params) for k in params.ks for task in exam.tasks]


def _chance(exam: Exam, task: Example, passed: int, k: int, params: EvaluateParams) -> Result:
    value = statistics.pass_at_k(params.samples, passed, k)
    measure, outcome = exam.measure(f"sampled pass@{k}"), f"{passed} of {params.samples} passed"
    return Result(measure, task.id, task.group, task.tier, value, 1, 1, outcome, "")


def _answer(measure: str, task: Example, mark: Mark, text: str) -> Result:
    value = float(mark.outcome == "passed")
    return Result(measure, task.id, task.group, task.tier, value, 1, 1, mark.outcome, text, mark.inside)
