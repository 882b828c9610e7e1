"""Packs: many sequences, one after another in one row without padding, with their exact boundaries.

Shapes: T = tokens of a pack, S = its sequences.
"""

import math
import random
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from heapq import heappop, heappush
from typing import Any, TypeVar, overload

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tasks.core.sequences import IGNORE, Column, Encoded
from tasks.core.weights.row import task_key
from tasks.engine.sequences import Places, Sequences, listed

COLUMN = "column_"
"""Prefix of the tensors that hold the objective's columns."""
AUXILIARY = "auxiliary_"
"""Prefix of the tensors that make up the row of auxiliary sequences."""
T = TypeVar("T")


@dataclass(frozen=True)
class Pack:
    """Sequences that share one row."""

    sequences: tuple[Encoded, ...]

    def __len__(self) -> int:
        return sum(map(len, self.sequences))


class Packs(Sequence[Pack]):
    """Packs whose sequences are read when a pack is taken."""

    def __init__(self, sequences: Sequences, places: Places, counts: Places) -> None:
        """Take the indices of the sequences, pack by pack (`places`), and the number of sequences in each pack (`counts`)."""
        self.sequences, self.places = sequences, places
        self.ends: Places = np.cumsum(counts)

    @classmethod
    def of(cls, packs: Iterable[Sequence[Encoded]]) -> "Packs":
        """Return packs of sequences in memory."""
        rows = [list(pack) for pack in packs]
        sequences = listed([sequence for row in rows for sequence in row])
        return cls(sequences, np.arange(len(sequences)), np.array([len(row) for row in rows], np.int64))

    def __len__(self) -> int:
        return len(self.ends)

    @overload
    def __getitem__(self, number: int) -> Pack: ...
    @overload
    def __getitem__(self, number: slice) -> list[Pack]: ...
    def __getitem__(self, number: int | slice) -> Pack | list[Pack]:
        if isinstance(number, slice):
            return [self[place] for place in range(len(self))[number]]
        return Pack(tuple(self.sequences[int(place)] for place in self.places_of(range(len(self))[number], 1)))

    def first(self, count: int) -> "Packs":
        """Return the first packs."""
        return Packs(self.sequences, self.places[: self._start(count)], self.counts[:count])

    def places_of(self, first: int, count: int) -> Places:
        """Return the indices of the sequences in `count` packs from number `first` on."""
        return self.places[self._start(first) : self._start(first + count)]

    @property
    def counts(self) -> Places:
        """Return the number of sequences in each pack."""
        return np.diff(self.ends, prepend=0)

    @cached_property
    def tokens(self) -> Places:
        """Return the number of tokens in each pack."""
        totals = np.concatenate([[0], np.cumsum(self.sequences.tokens[self.places], dtype=np.int64)])
        return np.diff(totals[np.concatenate([[0], self.ends])])

    def _start(self, number: int) -> int:
        return int(self.ends[min(number, len(self)) - 1]) if number and len(self) else 0


def fill(sequences: Sequence[Encoded], size: int) -> Packs:
    """Return packs of at most `size` tokens that hold every sequence once: best fit, longest first.

    Raises ValueError if a sequence is longer than a pack.
    """
    sequences = listed(sequences)
    return Packs(sequences, *_filled(sequences, np.arange(len(sequences)), size))


def _filled(sequences: Sequences, places: Places, size: int) -> tuple[Places, Places]:
    """Return the indices of the sequences, pack by pack, and the number of sequences in each pack."""
    tokens = sequences.tokens[places]
    if len(too_long := np.flatnonzero(tokens > size)):
        sequence = sequences[int(places[too_long[0]])]
        raise ValueError(f"example {sequence.id} has {len(sequence)} tokens and no pack of {size} can hold it.")
    order = np.argsort(-tokens.astype(np.int64), kind="stable")  # equal lengths keep their order
    packs = _best_fit(tokens[order], size)
    return places[order][np.argsort(packs, kind="stable")], np.bincount(packs).astype(np.int64)


def _best_fit(lengths: NDArray[Any], size: int) -> Places:
    """Return the pack number of each sequence: the fullest pack with room for it (the first of equals), else a new one."""
    packs_by_room: list[list[int]] = [[] for _ in range(size + 1)]  # heaps
    rooms = 0  # bit r is set if some pack has room for exactly r more tokens
    opened = 0
    packs = array("q")
    for length in lengths.astype(np.int64).data:
        if large_enough := rooms >> length:
            room = length + (large_enough & -large_enough).bit_length() - 1
            pack = heappop(packs_by_room[room])
            if not packs_by_room[room]:
                rooms ^= 1 << room
        else:
            room, pack = size, opened
            opened += 1
        if rest := room - length:
            heappush(packs_by_room[rest], pack)
            rooms |= 1 << rest
        packs.append(pack)
    return np.frombuffer(packs, np.int64) if packs else np.zeros(0, np.int64)


def schedule(sequences: Sequence[Encoded], size: int, max_tokens: int, epochs: int, seed: int) -> Packs:
    """Return the packs of a training, epoch after epoch, each epoch in its own order, cut off at `max_tokens`.

    They depend on the arguments alone, so a resumed run trains on the same packs as an uninterrupted one.
    """
    sequences = listed(sequences)
    places, counts = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]  # of each epoch
    remaining = max_tokens
    for epoch in range(epochs):
        order = random.Random(f"{seed}/{epoch}")
        seen = _of_epoch(sequences, shuffled(len(sequences), order), f"{seed}/{epoch}/passes")
        filled, sizes = _filled(sequences, seen, size)
        packs = Packs(sequences, *_in_order(filled, sizes, shuffled(len(sizes), order)))
        fitting = int(np.searchsorted(np.cumsum(packs.tokens), remaining, side="right"))
        taken = packs.first(max(fitting, 0 if epoch else 1))
        places.append(taken.places)
        counts.append(taken.counts)
        remaining -= int(taken.tokens.sum())
        if len(taken) < len(packs):
            break
    return Packs(sequences, np.concatenate(places), np.concatenate(counts))


def shuffled(count: int, order: random.Random) -> Places:
    """Return the numbers below `count` in an order drawn from `order`."""
    numbers = array("q", range(count))
    order.shuffle(numbers)
    return np.frombuffer(numbers, np.int64) if count else np.zeros(0, np.int64)


def _in_order(places: Places, counts: Places, order: Places) -> tuple[Places, Places]:
    """Return the places and counts of packs in another order."""
    starts, counts = (np.cumsum(counts) - counts)[order], counts[order]
    within = np.arange(len(places)) - np.repeat(np.cumsum(counts) - counts, counts)
    return places[np.repeat(starts, counts) + within], counts


def _of_epoch(sequences: Sequences, places: Places, seed: str) -> Places:
    """Return the places of the sequences that an epoch sees, each as often as it is seen.

    Of the sequences with 0.3 passes an epoch sees three in ten, evenly spaced from a random start, so that their number is exact to ±1.
    """
    if sequences.passes is None:
        return places
    draw = random.Random(seed)
    totals: dict[float, float] = {}
    times = []
    for passes in sequences.passes[places].tolist():
        before = totals.setdefault(passes, draw.random())
        totals[passes] = before + passes
        times.append(1 if passes == 1 else math.floor(totals[passes]) - math.floor(before))
    return np.repeat(places, times)


def collate(packs: Sequence[Pack], tasks: Sequence[str] = (), columns: Sequence[Column] = ()) -> dict[str, Tensor]:
    """Return the tensors of one row of packs.

    `input_ids`, `position_ids`, `labels`, `weights`, `segments`, `tasks` and each of `columns` as `column_NAME`: (1, T);
    `boundaries`: (S + 1,) offsets into the row; `numbers` and `task_keys`: (S,). A token's task is its place in `tasks`, 0 if that is empty.
    The auxiliary sequences form a row of their own, whose tensors have the prefix `auxiliary_`. `auxiliary_owners` holds for each of them
    the number, within the main row, of the sequence that it belongs to.
    Labels, weights and columns are shifted: position t holds those of the token to predict from t. The labels are also given as
    `shift_labels`, the name under which Trainer counts trained tokens without shifting them again.
    """
    sequences = [sequence for pack in packs for sequence in pack.sequences]
    flat: dict[str, list[Any]] = {name: [] for name in ("input_ids", "position_ids", "labels", "segments", "tasks")}
    weights: list[float] = []
    boundaries = [0]
    for number, sequence in enumerate(sequences):
        ids = sequence.ids
        flat["input_ids"] += ids
        flat["position_ids"] += range(len(ids))
        flat["labels"] += [ids[t] if sequence.weights[t] > 0 else IGNORE for t in range(1, len(ids))] + [IGNORE]
        flat["segments"] += [number] * len(ids)
        flat["tasks"] += [tasks.index(sequence.task) if tasks else 0] * len(ids)
        weights += [*sequence.weights[1:], 0.0]
        boundaries.append(boundaries[-1] + len(ids))
    row = {name: torch.tensor([values]) for name, values in flat.items()}
    row["weights"] = torch.tensor([weights], dtype=torch.float32)
    row |= {COLUMN + column.name: _shifted(column, sequences) for column in columns}
    row |= {"shift_labels": row["labels"], "boundaries": torch.tensor(boundaries, dtype=torch.int32)}
    row["numbers"] = torch.tensor([sequence.number for sequence in sequences])
    row["task_keys"] = torch.tensor([task_key(sequence.task) for sequence in sequences])
    owners = [number for number, sequence in enumerate(sequences) for _ in sequence.auxiliary]
    if owners:
        auxiliary = Pack(tuple(auxiliary for sequence in sequences for auxiliary in sequence.auxiliary))
        row |= {AUXILIARY + name: tensor for name, tensor in collate([auxiliary], columns=columns).items()}
        row[AUXILIARY + "owners"] = torch.tensor(owners)
    return row


def _shifted(column: Column, sequences: Sequence[Encoded]) -> Tensor:
    """Return a column of a row, (1, T): the values of its sequences, each shifted by one token, and the column's `fill` elsewhere."""
    values: list[int | float] = []
    for sequence in sequences:
        given = sequence.columns.get(column.name)
        values += [*given[1:], column.fill] if given else [column.fill] * len(sequence)
    return torch.tensor([values], dtype=torch.float32 if isinstance(column.fill, float) else torch.int64)


def by_budget(sequences: Sequence[Encoded], max_tokens: int) -> Packs:
    """Return packs for scoring: sequences sorted by length, as many together as fit `max_tokens`, at least one."""
    sequences = listed(sequences)
    places = np.argsort(sequences.tokens, kind="stable")
    counts = [len(group) for group in groups(sequences.tokens.tolist(), max_tokens, int)]
    return Packs(sequences, places, np.array(counts, np.int64))


def groups(rows: Iterable[T], max_tokens: int, length: Callable[[T], int]) -> Iterator[list[T]]:
    """Yield groups of rows in order of length, as many together as fit `max_tokens`, at least one."""
    group: list[T] = []
    size = 0
    for row in sorted(rows, key=length):
        if group and size + length(row) > max_tokens:
            yield group
            group, size = [], 0
        group.append(row)
        size += length(row)
    if group:
        yield group
