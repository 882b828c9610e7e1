"""Packs: many sequences laid end to end in one row without padding, with their exact boundaries.

Shapes: T = tokens of a pack, S = its sequences.
"""

import math
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor

from tasks.core.sequences import IGNORE, Column, Encoded

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


def fill(sequences: Sequence[Encoded], size: int) -> list[Pack]:
    """Return packs of at most `size` tokens that hold every sequence once: best fit, longest first.

    Raises ValueError if a sequence is longer than a pack.
    """
    if too_long := [sequence for sequence in sequences if len(sequence) > size]:
        raise ValueError(f"example {too_long[0].id} has {len(too_long[0])} tokens and no pack of {size} can hold it.")
    open_packs: list[list[Encoded]] = []
    room: list[int] = []
    for sequence in sorted(sequences, key=len, reverse=True):  # stable: equal lengths keep their order
        fitting = [index for index, space in enumerate(room) if space >= len(sequence)]
        if fitting:
            best = min(fitting, key=lambda index: room[index])
            open_packs[best].append(sequence)
            room[best] -= len(sequence)
        else:
            open_packs.append([sequence])
            room.append(size - len(sequence))
    return [Pack(tuple(pack)) for pack in open_packs]


def schedule(sequences: Sequence[Encoded], size: int, max_tokens: int, epochs: int, seed: int) -> list[Pack]:
    """Return the packs of a training, epoch after epoch, each epoch in its own order, cut at `max_tokens`.

    They follow from the arguments alone, so a resumed run trains on the same packs as an uninterrupted one.
    """
    packs: list[Pack] = []
    tokens = 0
    for epoch in range(epochs):
        order = random.Random(f"{seed}/{epoch}")
        shuffled = list(sequences)
        order.shuffle(shuffled)
        filled = fill(list(_of_epoch(shuffled, f"{seed}/{epoch}/passes")), size)
        order.shuffle(filled)
        for pack in filled:
            if tokens + len(pack) > max_tokens and packs:
                return packs
            packs.append(pack)
            tokens += len(pack)
    return packs


def _of_epoch(sequences: Iterable[Encoded], seed: str) -> Iterator[Encoded]:
    """Yield each sequence as often as an epoch sees it.

    Of sequences that are to be seen 0.3 times, three in ten are, spread evenly from a drawn start: their number is met to one.
    """
    draw = random.Random(seed)
    totals: dict[float, float] = {}
    for sequence in sequences:
        before = totals.setdefault(sequence.passes, draw.random())
        totals[sequence.passes] = before + sequence.passes
        times = 1 if sequence.passes == 1 else math.floor(totals[sequence.passes]) - math.floor(before)
        yield from [sequence] * times


def collate(packs: Sequence[Pack], tasks: Sequence[str] = (), columns: Sequence[Column] = ()) -> dict[str, Tensor]:
    """Return the tensors of one row of packs.

    `input_ids`, `position_ids`, `labels`, `weights`, `segments`, `tasks` and each of `columns` as `column_NAME`: (1, T);
    `boundaries`: (S + 1,) offsets into the row; `numbers`: (S,). A token's task is its place in `tasks`, 0 if that is empty.
    The auxiliary sequences of the row make a row of their own, its names prefixed by `auxiliary_`, with `auxiliary_owners`: for
    each of them the number within this row of the sequence that it belongs to.
    Labels, weights and columns are shifted: position t holds those of the token to predict from t. The labels stand under
    `shift_labels` too, the name by which Trainer counts trained tokens without shifting once more.
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
    owners = [number for number, sequence in enumerate(sequences) for _ in sequence.auxiliary]
    if owners:
        auxiliary = Pack(tuple(auxiliary for sequence in sequences for auxiliary in sequence.auxiliary))
        row |= {AUXILIARY + name: tensor for name, tensor in collate([auxiliary], columns=columns).items()}
        row[AUXILIARY + "owners"] = torch.tensor(owners)
    return row


def _shifted(column: Column, sequences: Sequence[Encoded]) -> Tensor:
    """Return a column of a row, (1, T): the values of its sequences, each shifted by one token, `fill` where there is none."""
    values: list[int | float] = []
    for sequence in sequences:
        given = sequence.columns.get(column.name)
        values += [*given[1:], column.fill] if given else [column.fill] * len(sequence)
    return torch.tensor([values], dtype=torch.float32 if isinstance(column.fill, float) else torch.int64)


def by_budget(sequences: Sequence[Encoded], max_tokens: int) -> Iterator[Pack]:
    """Yield packs for scoring: sequences sorted by length, as many together as fit `max_tokens`, at least one."""
    return (Pack(tuple(group)) for group in groups(sequences, max_tokens, len))


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
