"""What is measured where not everything is: the same items for every model of the same params."""

import random
from collections.abc import Iterable, Sequence
from typing import TypeVar

from tasks.core.sequences import Encoded

T = TypeVar("T")


def sample(rows: Sequence[T], count: int, seed: int) -> list[T]:
    """`count` of the rows at random, in their order; all of them where there are no more."""
    if count >= len(rows):
        return list(rows)
    chosen = random.Random(seed).sample(range(len(rows)), count)
    return [rows[index] for index in sorted(chosen)]


def within(sequences: Iterable[Encoded], max_tokens: int, seed: int) -> list[Encoded]:
    """Sequences in an order drawn from `seed`, as many as have `max_tokens` tokens together; at least one."""
    waiting = list(sequences)
    random.Random(seed).shuffle(waiting)
    return _first(waiting, max_tokens)


def lasting(sequences: Iterable[Encoded], max_tokens: int) -> list[Encoded]:
    """The same by the sequences' ids, which are hashes: the choice hardly moves where others are added."""
    return _first(sorted(sequences, key=lambda sequence: sequence.id), max_tokens)


def _first(waiting: Sequence[Encoded], max_tokens: int) -> list[Encoded]:
    taken: list[Encoded] = []
    for sequence in waiting:
        if taken and max_tokens < len(sequence):
            break
        taken.append(sequence)
        max_tokens -= len(sequence)
    return taken
