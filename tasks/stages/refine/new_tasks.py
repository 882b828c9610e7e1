"""Add new tasks of the kinds that a diagnosis names, with the answers of their generator or the model's own verified ones."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from tasks.core.records import WRITTEN, Example, Lineage, Unfit
from tasks.core.text.visible import excerpt
from tasks.core.text.writing import Write
from tasks.io.sources import gym
from tasks.io.sources.gym import Kind
from tasks.stages.refine.acceptance.acceptor import Acceptor
from tasks.stages.refine.example_text import with_response

GENERATOR = "reasoning-gym"
UNSOLVED = "no sample passes"


@dataclass(frozen=True)
class OwnAnswers:
    """Answers by the tuned model: the first of several samples that is complete and that the verifier accepts."""

    name: str
    """The model's name in the lineage."""
    samples: int
    seed: int
    write: Write
    score: Callable[[Example], float]

    def of(self, tasks: Sequence[Example]) -> Iterator[Example | None]:
        """Yield each task with such an answer, or None if no sample passes."""
        numbered = [(task, number) for task in tasks for number in range(self.samples)]
        keys = [f"{self.seed} {task.id} {number}" for task, number in numbered]
        answers = list(self.write([task.prompt for task, _ in numbered], keys))
        for place, task in enumerate(tasks):
            drawn = answers[place * self.samples : (place + 1) * self.samples]
            texts = (answer.text.strip() for answer in drawn if answer.ended)
            candidates = (with_response(task, text) for text in texts if text)
            yield next((candidate for candidate in candidates if self.score(candidate) >= 1), None)


@dataclass
class NewTasks:
    """Generates new tasks in waves, until each kind has as many as asked for, or the tries are used up."""

    kinds: Sequence[Kind]
    diagnosed: Mapping[str, Mapping[str, Any]]
    """Kind → numbers of tasks asked, failed and to add."""
    acceptor: Acceptor
    known: set[str]
    """The prompts (`gym.prompt_key`) that no new task may have: those of the round, of evaluation data and of probes."""
    seed: int
    round: int
    """The number of the round, stored with new examples."""
    tries: int
    own: OwnAnswers | None = None
    """None if the generator answers."""
    lineage: list[Lineage] = field(default_factory=list)

    def make(self) -> list[Example]:
        """Return the new tasks, by kind and in the order of their acceptance."""
        made: dict[str, list[Example]] = {kind.name: [] for kind in self.kinds}
        for attempt in range(self.tries):
            drawn = [(kind, task) for kind in self.kinds for task in self._draw(kind, made[kind.name], attempt)]
            for kind, example in self._accepted(drawn):
                made[kind.name].append(example)
        return [example for examples in made.values() for example in examples]

    def _draw(self, kind: Kind, made: Sequence[Example], attempt: int) -> list[Example]:
        """Return fresh tasks of a kind, as many as are still missing."""
        missing = self.diagnosed.get(kind.name, {}).get("add", 0) - len(made)
        if missing <= 0:
            return []
        tasks = gym.new_examples(kind, missing, f"new {self.seed} {self.round} {attempt}", self.known)
        self.known.update(map(gym.prompt_key, tasks))
        return tasks

    def _accepted(self, drawn: Sequence[tuple[Kind, Example]]) -> Iterator[tuple[Kind, Example]]:
        """Yield the tasks that are answered and accepted, and record all of them in the lineage."""
        answered = list(self.own.of([task for _, task in drawn])) if self.own else [task for _, task in drawn]
        rejections = iter(self.acceptor.accept_or_reject_new([example for example in answered if example]))
        for (kind, task), example in zip(drawn, answered, strict=True):
            unfit = next(rejections) if example else Unfit(UNSOLVED, "the verifier takes none of the model's answers")
            self._record(kind, example or task, unfit)
            if example and unfit is None:
                yield kind, replace(example, round=self.round)

    def _record(self, kind: Kind, example: Example, unfit: Unfit | None) -> None:
        author = self.own.name if self.own else GENERATOR
        reason, detail = (unfit.reason, unfit.detail) if unfit else ("", self._why(kind))
        self.lineage.append(
            Lineage(
                example.id,
                [],
                "add",
                author,
                "",
                unfit is None,
                reason,
                excerpt(detail),
                excerpt(example.response, WRITTEN),
            )
        )

    def _why(self, kind: Kind) -> str:
        counts = self.diagnosed[kind.name]
        total = sum(other["add"] for other in self.diagnosed.values())
        return (
            f"{counts['add']} of {total} new tasks are {kind.name}, of which the model failed {counts['failed']} of "
            f"{counts['asked']} fresh ones"
        )
