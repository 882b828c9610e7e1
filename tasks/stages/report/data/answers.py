"""Which answers stand side by side on the page: some of every kind, so that neither gains nor losses are hidden."""

from collections.abc import Mapping, Sequence
from itertools import zip_longest

from tasks.stages.report.compare import Pair

KINDS = {
    (False, True): "gained",
    (True, False): "lost",
    (True, True): "passed by both",
    (False, False): "failed by both",
}
"""Whether the first and the second model passed → what became of the task."""


def kind(pair: Pair) -> str:
    """What became of a task."""
    return KINDS[pair[0].value > 0, pair[1].value > 0]


def counts(tasks: Sequence[Pair]) -> dict[str, int]:
    """How many tasks there are of each kind."""
    found = [kind(pair) for pair in tasks]
    return {name: found.count(name) for name in KINDS.values()}


def choose(tasks: Sequence[Pair], count: int) -> list[Pair]:
    """`count` tasks, one of each kind in turn as long as there are any, in the order of the items (which are hashes)."""
    by_kind = [[pair for pair in tasks if kind(pair) == name] for name in KINDS.values()]
    turns = [pair for turn in zip_longest(*by_kind) for pair in turn if pair is not None]
    return turns[:count]


def outcomes(tasks: Sequence[Pair]) -> Mapping[str, tuple[int, int]]:
    """How the answers of both models ended: outcome → number before and after, `passed` first, then the most frequent."""
    sides = [[pair[side].outcome for pair in tasks] for side in (0, 1)]
    names = sorted(
        {*sides[0], *sides[1]}, key=lambda name: (name != "passed", -sum(s.count(name) for s in sides), name)
    )
    return {name: (sides[0].count(name), sides[1].count(name)) for name in names}
