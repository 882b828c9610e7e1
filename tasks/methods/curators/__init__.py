"""Curators: choose what to improve in a data set, by how the model trained on it does on its examples or on fresh tasks.

A curator's folder holds `SPEC = CuratorSpec(config=…)` and `METHOD`. Its `method.py` imports no torch, because `ratchet review` uses it for
explanations. A curator is given no texts.

`looks_at="examples"`: `METHOD = Curator(…)` is given signals of each example; `choose` forms the sets, `explain` says why an example is
in one. The caller that gathers the signals asks the model the curator's `questions`: in free text, which `score` reads, or by the log-odds of
the digits that an answer may begin with, which `expect` reads.
`looks_at="tasks"`: `METHOD = TaskCurator(…)` is given the number of fresh tasks of each kind that the model failed; `allocate` returns the
number of new tasks of each kind for the next round.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from tasks.core.records import Signals
from tasks.methods import Spec, load


@dataclass(frozen=True)
class Limit:
    """Mean, spread and threshold of a signal over all examples."""

    mean: float
    std: float
    threshold: float | None
    """None if no value can pass it."""


@dataclass(frozen=True)
class Question:
    """A question to the model about an example."""

    text: str
    response: bool
    """True if the question is about the response; otherwise the model sees the prompt alone."""


@dataclass(frozen=True, kw_only=True)
class CuratorSpec(Spec):
    """The facts about a curator."""

    looks_at: Literal["examples", "tasks"] = "examples"
    """The items that the tuned model is measured on: the examples that it was trained on, or fresh tasks of sources that generate tasks."""


@dataclass(frozen=True, kw_only=True)
class Curator:
    """One way of choosing which examples to improve."""

    choose: Callable[[Sequence[Signals], Any], tuple[list[Signals], dict[str, Limit]]]
    """Returns the same signals in the same order with `flags` and `chosen`, and the limit of each signal that has any value."""
    explain: Callable[[Signals, Mapping[str, Limit]], list[str]]
    """Returns a sentence for each set that an example is in, with the figures that put it there."""
    neighbours: Callable[[Any], int]
    """Returns the number of nearest prompts over which an example's `neighbour_similarity` is averaged."""
    questions: Mapping[str, Question]
    """The field of `Signals` that holds the answer → the question."""
    answer: str
    """The request for an answer in free text, which `score` reads."""
    score: Callable[[str], float | None]
    """Returns the score in an answer, 0 to 10; None if it cannot be read."""
    digit: str
    """The request for an answer of one digit, which `expect` reads."""
    lead: str
    """The text of such an answer before the digit."""
    expect: Callable[[Sequence[float]], float]
    """Returns the expected score, 0 to 10, from the log-odds of the digits 0 to 9."""
    quality: Callable[[Sequence[float | None]], float | None]
    """Returns the quality of an example from the scores of all questions; None if too few are known."""


NEVER_FAILED = "never failed"
"""The reason why a kind gets no new tasks if the model failed none of its probes."""
NO_SHARE = "its share of the new tasks is rounded to none"
"""The reason why a kind gets no new tasks although the model failed some of its probes."""


@dataclass(frozen=True)
class Attempts:
    """The number of fresh tasks of a kind that a model was asked, and of those that it failed."""

    asked: int
    failed: int


@dataclass(frozen=True, kw_only=True)
class TaskCurator:
    """One way of choosing which kinds of generated tasks to add."""

    allocate: Callable[[Mapping[str, Attempts], int, Any], dict[str, int]]
    """Returns the number of new tasks of each kind, given the model's failures and the number of examples of its round."""


def limits(diagnosis: Mapping[str, Any]) -> dict[str, Limit]:
    """Return the limits that diagnosis.json holds."""
    return {name: Limit(**figures) for name, figures in diagnosis["limits"].items()}


def explainer(diagnosis: Mapping[str, Any]) -> Callable[[Signals], list[str]]:
    """Return a function that explains the sets of an example under the curator and the limits of a diagnosis."""
    curator = load("curators", diagnosis["curator"])
    if isinstance(curator, TaskCurator):
        return lambda _: []
    bounds = limits(diagnosis)
    return lambda row: list(curator.explain(row, bounds))
