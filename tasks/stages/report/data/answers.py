"""Pair the answers of two models to the same tasks: kinds of change, a selection for the page, counts of outcomes."""

from collections.abc import Mapping, Sequence
from itertools import zip_longest

from tasks.stages.report.data.comparison import Pair

KINDS = {
    (False, True): "gained",
    (True, False): "lost",
    (True, True): "passed by both",
    (False, False): "failed by both",
}
"""(first model passed, second model passed) → kind of the pair."""


def kind(pair: Pair) -> str:
    """Return the kind of a pair of answers, one of `KINDS`."""
    return KINDS[pair[0].value == 1, pair[1].value == 1]


def count_kinds(tasks: Sequence[Pair]) -> dict[str, int]:
    """Return the number of tasks of each kind."""
    kinds = [kind(pair) for pair in tasks]
    return {name: kinds.count(name) for name in KINDS.values()}


def choose_answers(tasks: Sequence[Pair], count: int) -> list[Pair]:
    """Choose `count` tasks, one of each kind in turn, so that the page hides neither gains nor losses.

    Within a kind the order is that of the items, which are hashes.
    """
    by_kind: dict[str, list[Pair]] = {name: [] for name in KINDS.values()}
    for pair in tasks:
        by_kind[kind(pair)].append(pair)
    in_turn = [pair for turn in zip_longest(*by_kind.values()) for pair in turn if pair is not None]
    return in_turn[:count]


def count_outcomes(tasks: Sequence[Pair]) -> Mapping[str, tuple[int, int]]:
    """Count the outcomes of both models' answers: outcome → (before, after), `passed` first, then the most frequent."""
    sides = [[pair[side].outcome for pair in tasks] for side in (0, 1)]
    names = sorted(
        {*sides[0], *sides[1]}, key=lambda name: (name != "passed", -sum(s.count(name) for s in sides), name)
    )
    return {name: (sides[0].count(name), sides[1].count(name)) for name in names}
