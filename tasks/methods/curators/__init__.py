"""Curators: what to mend in a data set, by what the model that was trained on it makes of each example.

A curator's file holds `METHOD = Curator(…)`. It sees signals and no texts: `choose` lays out the sets, `explain` says why an example
is in one. Whoever gathers the signals asks the model the curator's `questions`, in free text, which `score` reads, or by the odds
of the digits that an answer may begin with, which `expect` reads.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tasks.core.params import Params
from tasks.core.records import Signals


@dataclass(frozen=True)
class Limit:
    """Where a signal of all examples together sets one apart."""

    mean: float
    std: float
    threshold: float | None
    """None where nothing can pass it."""


@dataclass(frozen=True)
class Question:
    """What the model is asked about an example."""

    text: str
    response: bool
    """Whether it is about the response; else the model sees the prompt alone."""


@dataclass(frozen=True)
class Curator:
    """One way of telling which examples to mend."""

    params: type[Params]
    choose: Callable[[Sequence[Signals], Any], tuple[list[Signals], dict[str, Limit]]]
    """The same signals in the same order with `flags` and `chosen`, and the limit of each signal that has any value."""
    explain: Callable[[Signals, Mapping[str, Limit]], list[str]]
    """A sentence for each set that an example is in: the figures that put it there."""
    neighbours: Callable[[Any], int]
    """How many of an example's nearest prompts `neighbour_similarity` is the mean of."""
    questions: Mapping[str, Question]
    """The field of `Signals` that holds the answer → the question."""
    answer: str
    """How a free answer is asked for, and …"""
    score: Callable[[str], float | None]
    """… what it says, 0 to 10; None where it cannot be read."""
    digit: str
    """How an answer of one digit is asked for, and …"""
    lead: str
    """… the text that stands before the digit, and …"""
    expect: Callable[[Sequence[float]], float]
    """… the score that the log-odds of the digits 0 to 9 amount to, 0 to 10."""
    quality: Callable[[Sequence[float | None]], float | None]
    """What the scores of all questions amount to; None where too few are known."""
    wraps: str = ""
    """The library class that does it."""


def limits(diagnosis: Mapping[str, Any]) -> dict[str, Limit]:
    """The limits as diagnosis.json holds them."""
    return {name: Limit(**figures) for name, figures in diagnosis["limits"].items()}
