"""Grade suites of tests: each runs against the right program, against a copy with marks, and against mutants of it.

A suite's score is the share of mutants that it detects. A suite that fails on the right program would fail on every mutant too, so its score
is 0 by definition. A suite that detects nothing passes on every mutant, so its measured score is 0. Passing on the right program says little
(Storhaug & Li 2024, https://arxiv.org/abs/2411.02462, where untuned models pass more and cover a fifth), so it is a separate measure.

Lines and branches count if any statement or test of the suite reaches them, also after a failed one, as test runners count coverage.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple

from tasks.core.answers import registry
from tasks.core.answers.base import PASSED, Grade
from tasks.core.answers.unit_tests import BRANCHES, LINES, OWN, PARSES, RIGHT
from tasks.core.records import Example, Result, Tests
from tasks.core.text import mutations, suites
from tasks.core.text.programs import program
from tasks.core.text.suites import Suite
from tasks.io.sandbox import Case, Outputs, Verdict
from tasks.stages.evaluate.config import SuitesConfig
from tasks.stages.evaluate.suites.marking import PRELUDE, SEEN, Marked, marked

RunCases = Callable[[Iterable[Case]], Iterator[Verdict]]
Observe = Callable[[Iterable[Case]], Iterator[Outputs | Verdict]]
NO_CALL = "never calls it"
"""The outcome of a suite that passes and reaches no line of the function."""
UNNOTICED = "notices nothing"
"""The outcome of a suite that passes on every mutant."""
NO_MUTANTS = "no mistake to plant"
MOST_OWN = 20
"""Most suites of the data that are measured for comparison with those of the model."""
HELD = "_held_"
PARTS = "({name}, *(getattr({name}, part, None) for part in ('__code__', '__defaults__', '__kwdefaults__')))"


@dataclass(frozen=True)
class Figures:
    """The measurements of one suite."""

    outcome: str
    lines: float = 0.0
    branches: float = 0.0
    killed: float = 0.0

    @property
    def is_right(self) -> bool:
        """Return True if the suite tests the function, does not change it, and passes on the right program."""
        return self.outcome in (PASSED, UNNOTICED, NO_MUTANTS)


@dataclass(frozen=True)
class _Job:
    """A suite, and the program that it tests."""

    suite: Suite
    seed: str
    program: str
    entry: str
    prelude: str

    @property
    def tests(self) -> Tests:
        return Tests("script", self.suite.script, self.entry, self.prelude)


class _Reached(NamedTuple):
    """The parts of a program with marks that a suite reaches."""

    problem: str
    """The outcome if nothing is known: the process ended early, or the suite changed the function. Empty if all is known."""
    lines: float = 0.0
    branches: float = 0.0


class Suites:
    """Grades suites, and keeps the other measures of them."""

    def __init__(self, config: SuitesConfig, run: RunCases, observe: Observe) -> None:
        self._config, self._run, self._observe = config, run, observe
        self.measured: list[Result] = []

    def grade(self, problems: Sequence[Example], answers: Sequence[str]) -> list[Grade]:
        """Return the grade of each answer: the share of mutants that it detects."""
        own = problems[:MOST_OWN]
        jobs = [_job(problem, answer) for problem, answer in zip(problems, answers, strict=True)]
        figures = self._figures([*jobs, *(_job(problem, problem.response) for problem in own)])
        written, of_data = figures[: len(jobs)], figures[len(jobs) :]
        self.measured = [
            row
            for measure, value in _MEASURES.items()
            for row in (
                _result(measure, value(one), one, problem) for one, problem in zip(written, problems, strict=True)
            )
        ] + [_result(OWN, one.killed, one, problem) for one, problem in zip(of_data, own, strict=True)]
        return [Grade(one.killed, one.outcome, program(answer)) for one, answer in zip(written, answers, strict=True)]

    def _figures(self, jobs: Sequence[_Job]) -> list[Figures]:
        sound = [job for job in jobs if not job.suite.fault]
        verdicts = iter(list(self._run(Case(job.program, job.tests) for job in sound)))
        reached = iter(list(self._reached(sound)))
        first = [Figures(job.suite.fault) if job.suite.fault else _first(next(verdicts), next(reached)) for job in jobs]
        mutants = {place: self._mutants(jobs[place]) for place, one in enumerate(first) if one.outcome == PASSED}
        noticed = self._run(Case(text, jobs[place].tests) for place, texts in mutants.items() for text in texts)
        for place, texts in mutants.items():
            killed = sum(next(noticed).kind != PASSED for _ in texts)
            outcome = NO_MUTANTS if not texts else PASSED if killed else UNNOTICED
            first[place] = Figures(
                outcome, first[place].lines, first[place].branches, killed / len(texts) if texts else 0.0
            )
        return first

    def _mutants(self, job: _Job) -> list[str]:
        """Return the mutants of the program, the same for every suite of a function."""
        texts = (text for _, text in mutations.mutants(job.program, job.seed, list(mutations.OPERATORS)))
        return list(islice(dict.fromkeys(texts), self._config.mutants))

    def _reached(self, jobs: Sequence[_Job]) -> Iterator[_Reached]:
        """Yield, for each suite, the shares of lines and branches that it reaches, or the problem, such as a changed function."""
        programs = [marked(job.program) for job in jobs]
        cases = [Case(one.source, _observing(job)) for job, one in zip(jobs, programs, strict=True)]
        for one, outputs in zip(programs, self._observe(cases), strict=True):
            yield _shares(one, outputs)


def _job(problem: Example, answer: str) -> _Job:
    assert problem.tests is not None, "only examples with a check are graded"
    _, right = registry.of(problem.tests)
    suite = suites.read(program(answer), right["entry"], right["program"])
    return _Job(suite, problem.id, right["program"], right["entry"], right["prelude"])


def _observing(job: _Job) -> Tests:
    """Return tests that run a suite statement by statement, so that one that raises does not end the rest, and print what was reached."""
    parts = PARTS.format(name=job.entry)
    first = f"{HELD} = {SEEN}.clear(), {parts}"
    last = f"print(__import__('json').dumps([sorted({SEEN}, key=repr), {HELD}[1] == {parts}]))"
    sources = [first, *job.suite.statements, last]
    return Tests("doctest", "".join(map(_example, sources)), job.entry, f"{job.prelude}\n{PRELUDE}")


def _example(source: str) -> str:
    """Return a statement as a doctest example without expected output."""
    first, *others = source.split("\n")
    return "".join([f">>> {first}\n", *(f"... {line}".rstrip() + "\n" for line in others)])


def _shares(one: Marked, outputs: Outputs | Verdict) -> _Reached:
    """Return the shares that a suite reaches, from the last output of its process."""
    if isinstance(outputs, Verdict):
        return _Reached(outputs.kind)
    try:
        seen, is_whole = json.loads(outputs[-1] or "")
        lines = {place for place, outcome in seen if outcome is None} & one.lines
        branches = {(place, outcome) for place, outcome in seen if outcome is not None} & one.branches
    except (ValueError, TypeError):
        return _Reached("evaded")
    if is_whole is not True:
        return _Reached(suites.EDITS)
    share = len(lines) / len(one.lines) if one.lines else 0.0
    return _Reached("", share, len(branches) / len(one.branches) if one.branches else float(bool(lines)))


def _first(verdict: Verdict, reached: _Reached) -> Figures:
    """Return the figures of a suite on the right program."""
    if reached.problem == suites.EDITS:
        return Figures(suites.EDITS)
    if verdict.kind != PASSED:
        return Figures(verdict.kind, reached.lines, reached.branches)
    outcome = reached.problem or (PASSED if reached.lines else NO_CALL)
    return Figures(outcome, reached.lines, reached.branches)


_MEASURES: dict[str, Callable[[Figures], float]] = {
    PARSES: lambda one: float(one.outcome != suites.SYNTAX),
    RIGHT: lambda one: float(one.is_right),
    LINES: lambda one: one.lines,
    BRANCHES: lambda one: one.branches,
}


def _result(measure: str, value: float, one: Figures, problem: Example) -> Result:
    """Return the result of a suite. In the yes-or-no measures, a suite that fulfils one has the outcome `passed`."""
    outcome = PASSED if measure in (PARSES, RIGHT) and value else one.outcome
    return Result(
        measure,
        problem.id,
        problem.group,
        problem.tier,
        value,
        1,
        1,
        outcome,
        "",
        domain=problem.domain,
        task=problem.task,
    )
