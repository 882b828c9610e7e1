"""Sets of problems: a model answers each problem, and its answers are graded by tests, verifiers and checks."""

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from tasks.core.answers import registry, unit_tests
from tasks.core.records import PASS, Example, Message
from tasks.core.text.wording import block
from tasks.engine import encode
from tasks.io.sources import benchmarks
from tasks.io.system import packages
from tasks.stages.evaluate import subsample
from tasks.stages.evaluate.config import EvaluateConfig
from tasks.stages.evaluate.strength import Strength

HUMAN_EVAL = "human_eval"


@dataclass(frozen=True)
class ProblemSet:
    """Problems whose results are reported together."""

    name: str
    """`human_eval`; empty for the held-out problems of the data."""
    problems: Sequence[Example]
    empty: str = ""
    """The reason why there are no problems, or why they cannot be judged; empty if there is none."""
    check: registry.AnyKind | None = None
    """A check of the kind that all problems have; None if they have tests. The problems' own checks may differ in options."""
    strengths: Mapping[str, Strength] = field(default_factory=dict)
    """The strength of each problem's tests by its id, refused problems included; empty if it is not measured."""

    @property
    def runs_programs(self) -> bool:
        """True if some answers are programs. Such a set is not answered without a sandbox."""
        return any(map(self.asks_program, self.problems))

    def asks_program(self, problem: Example) -> bool:
        """Return True if the answer to a problem of the set is a program, and only the program is judged."""
        is_suite = isinstance(self.check, unit_tests.UnitTests)
        return is_suite or (problem.tests is not None and problem.tests.run_programs)

    @property
    def first(self) -> str:
        """Return the name of the measure of greedy answers: `pass@1`, `number accuracy`."""
        return self.check.measure if self.check else self.measure(PASS)

    def measure(self, name: str) -> str:
        """Return the name of a measure in this set's results: `pass@1`, `human_eval pass@1`."""
        return f"{self.name} {name}".strip()

    def without(self, items: Collection[str]) -> "ProblemSet":
        """Return the set without these items."""
        problems = [problem for problem in self.problems if problem.id not in items]
        strengths = {item: strength for item, strength in self.strengths.items() if item not in items}
        return replace(self, problems=problems, strengths=strengths)

    def reason_not_run(self, level: int | None) -> str | None:
        """Return the reason if no answers are generated at this level of isolation, else None."""
        if self.empty:
            return self.empty
        if self.runs_programs and (level or 0) < 2:
            return "no sandbox on this machine (`ratchet doctor` says what is needed)"
        return None


def problem_sets(test: Sequence[Example], tokenizer: Any, config: EvaluateConfig) -> list[ProblemSet]:
    """Return the held-out problems with tests, HumanEval if it is set, and the examples of each kind of check.

    The settings limit the number of each, and the choice is the same for every model.
    """
    usable = [row for row in test if row.tests is not None and encode.is_plain(row.prompt, tokenizer, row.tools)]
    tested = [row for row in usable if row.tests is not None and row.tests.kind != "check"]
    problems = subsample.sample(tested, config.pass_items, config.seed)
    empty = "no held-out example has tests" if config.pass_items else "evaluate.pass_items is 0"
    checked = list(_checked_sets(usable, config))
    sets = [] if checked and not tested else [ProblemSet("", problems, "" if problems else empty)]
    if config.human_eval:
        sets.append(ProblemSet(HUMAN_EVAL, subsample.sample(list(human_eval()), config.human_eval, config.seed)))
    return [*sets, *checked]


def _checked_sets(usable: Sequence[Example], config: EvaluateConfig) -> Iterator[ProblemSet]:
    """Yield a set for each kind of check."""
    by_kind: defaultdict[str, list[Example]] = defaultdict(list)
    checks: dict[str, registry.AnyKind] = {}
    for row in usable:
        if row.tests is not None and row.tests.kind == "check":
            check, _ = registry.of(row.tests)
            checks.setdefault(check.kind, check)
            by_kind[check.kind].append(row)
    for kind in sorted(by_kind):
        problems = subsample.sample(by_kind[kind], config.answer_items, config.seed)
        empty = _unset(kind, config) if problems else "evaluate.answer_items is 0"
        yield ProblemSet(kind, problems, empty, checks[kind])


def _unset(kind: str, config: EvaluateConfig) -> str:
    """Return a message if a setting that this kind of check needs is missing; empty if none is."""
    if kind == "judge" and config.judge is None:
        return "evaluate.judge is not set"
    return "evaluate.tests is not set" if kind == unit_tests.NAME and config.tests is None else ""


def human_eval() -> Iterator[Example]:
    """Yield HumanEval's problems as held-out examples. Raises ValueError without the package `human-eval`."""
    problems = list(benchmarks.human_eval("evaluate.human_eval"))
    license = packages.license_of("human-eval")
    for problem in problems:
        messages = [problem.request, Message("assistant", block((problem.stub + problem.body).strip("\n")))]
        yield Example(
            problem.name, messages, "function", "human-eval", problem.name, "test", f"human-eval: {problem.name}", license,
            problem.tests,
        )  # fmt: skip
