"""Cache the strength of tests: it is measured once for each solution, its tests and the sandbox, independent of the measured model.

A file holds one problem and is written as soon as its verdicts are in, so a process that is killed loses only the current problem. A
damaged file is measured again and overwritten. Every verdict comes from the sandbox; no model's answer is part of it.
"""

import platform
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any, Generic, TypeVar

from pydantic import TypeAdapter, ValidationError

from tasks.core.records import Example
from tasks.core.text.programs import program
from tasks.io import provenance, sandbox
from tasks.io.generators.answers import Answers
from tasks.stages.evaluate import inputs, strength
from tasks.stages.evaluate.config import StrengthConfig
from tasks.stages.evaluate.inputs import Added
from tasks.stages.evaluate.problem_sets import ProblemSet
from tasks.stages.evaluate.strength import Strength

T = TypeVar("T")


def measure(
    problems: Sequence[Example], config: StrengthConfig, folder: Path, workers: int = 2
) -> tuple[list[Example], list[Strength]]:
    """Return the problems, with generated examples added to weak tests if `inputs` is set, and the strength of each problem's tests.

    `folder` is the cache. Raises RuntimeError if something has to be measured and the machine has no sandbox of level 2.
    """
    answers, judge = Answers(folder), _judge()
    strengths = _Kept(
        answers,
        [judge, "strength", config.mutants],
        TypeAdapter(Strength),
        partial(strength.measure, config=config, run=partial(sandbox.run, limits=strength.LIMITS, workers=workers)),
        lambda value: value.passes,
    )
    measured = strengths.of(problems)
    if not config.inputs:
        return list(problems), measured
    examples = _Kept(
        answers,
        [judge, "inputs", config.inputs],
        TypeAdapter(list[Added]),
        partial(inputs.generate, count=config.inputs, observe=partial(sandbox.outputs, workers=workers)),
        bool,
    )
    return strength.strengthen(problems, measured, config.least, strengths.of, examples.of)


def strengthen(problem_set: ProblemSet, config: StrengthConfig, folder: Path) -> ProblemSet:
    """Return the problem set with the strength of its tests. Weak tests are strengthened, or their problems left out, as `config` says.

    `folder` and the errors raised are the same as for `measure`.
    """
    problems = [problem for problem in problem_set.problems if problem.tests is not None and problem.tests.run_programs]
    if not problems:
        return problem_set
    problems, strengths = measure(problems, config, folder)
    by_id = {problem.id: of_tests for problem, of_tests in zip(problems, strengths, strict=True)}
    tested = {problem.id: problem for problem in problems}
    kept = [
        tested.get(problem.id, problem)
        for problem in problem_set.problems
        if config.weak == "apart" or problem.id not in by_id or not by_id[problem.id].is_weak(config.least)
    ]
    empty = "" if kept else "the tests of all problems are weak (evaluate.strength)"
    return replace(problem_set, problems=kept, strengths=by_id, empty=empty)


@dataclass(frozen=True)
class _Kept(Generic[T]):
    """Values of problems, each computed once per problem content and settings."""

    answers: Answers
    settings: Any
    kind: TypeAdapter[T]
    compute: Callable[[Sequence[Example]], Iterable[T]]
    is_certain: Callable[[T], bool]
    """Returns True for a value that may be cached. A solution that fails may only have been short of time."""

    def of(self, problems: Sequence[Example]) -> list[T]:
        """Return the value of each problem."""
        values = [self._read(problem) for problem in problems]
        missing = [place for place, value in enumerate(values) if value is None]
        computed = self.compute([problems[place] for place in missing]) if missing else ()
        for place, value in zip(missing, computed, strict=True):
            values[place] = value
            if self.is_certain(value):
                self.answers.keep(self._question(problems[place]), self.kind.dump_python(value, mode="json"))
        return [value for value in values if value is not None]

    def _read(self, problem: Example) -> T | None:
        record = self.answers.get(self._question(problem))
        try:
            return None if record is None else self.kind.validate_python(record)
        except ValidationError:  # a file that was altered
            return None

    def _question(self, problem: Example) -> list[Any]:
        """Return everything that the value depends on. The problem's id seeds its mutants and inputs."""
        assert problem.tests is not None, "only problems with tests are measured"
        return [self.settings, problem.id, program(problem.response), asdict(problem.tests)]


def _judge() -> dict[str, str]:
    """Return everything that verdicts depend on besides programs and tests. These can import only the standard library."""
    return {
        "code": provenance.code_digest(provenance.closure(strength.__name__)),
        "isolation": sandbox.probe().name,
        "libcst": metadata.version("libcst"),
        "python": platform.python_version(),
    }
