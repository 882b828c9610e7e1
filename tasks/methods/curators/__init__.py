"""Curators: what to mend in a data set, by what the model that was trained on it makes of each example.

A curator's folder holds `SPEC = CuratorSpec(config=…)` and `METHOD = Curator(…)`, whose `method.py` imports no torch: `ratchet
review` reads explanations. It sees signals and no texts: `choose` lays out the sets, `explain` says why an example is in one.
Whoever gathers the signals asks the model the curator's `questions`, in free text, which `score` reads, or by the odds of the
digits that an answer may begin with, which `expect` reads.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tasks.core.records import Signals
from tasks.methods import Spec


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


def limits(diagnosis: Mapping[str, Any]) -> dict[str, Limit]:
    """The limits as diagnosis.json holds them."""
    return {name: Limit(**figures) for name, figures in diagnosis["limits"].items()}
