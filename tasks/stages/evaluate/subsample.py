"""Subsets to measure on: the same items for every model under the same params."""

import hashlib
import random
from collections.abc import Callable, Iterable, Sequence
from operator import attrgetter
from typing import TypeVar

from tasks.core.sequences import Encoded

T = TypeVar("T")


def sample(rows: Sequence[T], count: int, seed: int, id: Callable[[T], str] = attrgetter("id")) -> list[T]:
    """Return `count` of the rows, drawn by the hash of their ids, in their original order; all rows if there are no more.

    The subset hardly changes when rows are added.
    """

    def drawn(row: T) -> str:
        return hashlib.sha256(f"{seed} {id(row)}".encode()).hexdigest()

    chosen = {id(row) for row in sorted(rows, key=drawn)[:count]}
    return [row for row in rows if id(row) in chosen]


def shuffled(sequences: Iterable[Encoded], max_tokens: int, seed: int) -> list[Encoded]:
    """Shuffle sequences by `seed` and return the first ones with at most `max_tokens` tokens in total; at least one."""
    candidates = list(sequences)
    random.Random(seed).shuffle(candidates)
    return _first(candidates, max_tokens)


def by_id(sequences: Iterable[Encoded], max_tokens: int) -> list[Encoded]:
    """Order sequences by their ids, which are hashes, and return the first ones, as `shuffled` does.

    The subset hardly changes when sequences are added.
    """
    return _first(sorted(sequences, key=lambda sequence: sequence.id), max_tokens)


def _first(candidates: Sequence[Encoded], max_tokens: int) -> list[Encoded]:
    taken: list[Encoded] = []
    for sequence in candidates:
        if taken and max_tokens < len(sequence):
            break
        taken.append(sequence)
        max_tokens -= len(sequence)
    return taken
