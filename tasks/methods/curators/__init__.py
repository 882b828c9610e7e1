"""Curators: what to mend in a data set, by what the model that was trained on it makes of its examples, or of fresh tasks.

A curator's folder holds `SPEC = CuratorSpec(config=…)` and `METHOD`, whose `method.py` imports no torch: `ratchet review` reads
explanations. It sees no texts.

`looks_at="examples"`: `METHOD = Curator(…)` sees signals of each example; `choose` lays out the sets, `explain` says why an example is
in one. Whoever gathers the signals asks the model the curator's `questions`, in free text, which `score` reads, or by the odds of the
digits that an answer may begin with, which `expect` reads.
`looks_at="tasks"`: `METHOD = TaskCurator(…)` sees how many fresh tasks of each kind the model failed; `allocate` says how many new
tasks of each kind the next round gets.
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
    """None where nothing can pass it."""


@dataclass(frozen=True)
class Question:
    """A question to the model about an example."""

    text: str
    response: bool
    """True where it is about the response; else the model sees the prompt alone."""


@dataclass(frozen=True, kw_only=True)
class CuratorSpec(Spec):
    """The facts about a curator."""

    looks_at: Literal["examples", "tasks"] = "examples"
    """What the tuned model is measured on: the examples that it was trained on, or fresh tasks of sources that generate them."""


@dataclass(frozen=True, kw_only=True)
class Curator:
    """One way of telling which examples to mend."""

    choose: Callable[[Sequence[Signals], Any], tuple[list[Signals], dict[str, Limit]]]
    """The same signals in the same order with `flags` and `chosen`, and the limit of each signal that has any value."""
    explain: Callable[[Signals, Mapping[str, Limit]], list[str]]
    """A sentence for each set that an example is in: the figures that put it there."""
    neighbours: Callable[[Any], int]
    """The number of nearest prompts that an example's `neighbour_similarity` is the mean of."""
    questions: Mapping[str, Question]
    """The field of `Signals` that holds the answer → the question."""
    answer: str
    """The request for a free answer, and …"""
    score: Callable[[str], float | None]
    """… the score read from it, 0 to 10; None where it cannot be read."""
    digit: str
    """The request for an answer of one digit, and …"""
    lead: str
    """… the text that stands before the digit, and …"""
    expect: Callable[[Sequence[float]], float]
    """… the score that the log-odds of the digits 0 to 9 amount to, 0 to 10."""
    quality: Callable[[Sequence[float | None]], float | None]
    """The quality that the scores of all questions amount to; None where too few are known."""


NEVER_FAILED = "never failed"
"""Why a kind of tasks gets no new one, if none of those that were asked failed."""
NO_SHARE = "its share of the new tasks is rounded to none"
"""Why a kind of tasks gets no new one, though some of those that were asked failed."""


@dataclass(frozen=True)
class Attempts:
    """The fresh tasks of a kind that a model was asked, and those that it failed."""

    asked: int
    failed: int


@dataclass(frozen=True, kw_only=True)
class TaskCurator:
    """One way of telling of which kinds of generated tasks to add more."""

    allocate: Callable[[Mapping[str, Attempts], int, Any], dict[str, int]]
    """The number of new tasks of each kind, by what the model failed and the number of examples of its round."""


def limits(diagnosis: Mapping[str, Any]) -> dict[str, Limit]:
    """The limits as diagnosis.json holds them."""
    return {name: Limit(**figures) for name, figures in diagnosis["limits"].items()}


def explainer(diagnosis: Mapping[str, Any]) -> Callable[[Signals], list[str]]:
    """Return a function that explains the sets of an example under the curator and the limits of a diagnosis."""
    curator = load("curators", diagnosis["curator"])
    if isinstance(curator, TaskCurator):
        return lambda _: []
    bounds = limits(diagnosis)
    return lambda row: list(curator.explain(row, bounds))
