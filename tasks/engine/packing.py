"""Packs: many sequences laid end to end in one row without padding, their boundaries exact.

Shapes: T = tokens of a pack, S = its sequences.
"""

import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor

from tasks.engine.encode import Encoded

IGNORE = -100
"""The label of a position that trains nothing, as everywhere in transformers."""
CONTRAST = "contrast_"
"""Before the names of tensors that belong to the wrong counterparts of a row's sequences."""
T = TypeVar("T")


@dataclass(frozen=True)
class Pack:
    """Sequences that share one row."""

    sequences: tuple[Encoded, ...]

    def __len__(self) -> int:
        return sum(map(len, self.sequences))


def fill(sequences: Sequence[Encoded], size: int) -> list[Pack]:
    """Packs of at most `size` tokens that hold every sequence once: best fit, longest first.

    Raises ValueError where a sequence is longer than a pack.
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
    """The packs of a whole training, epoch after epoch, each in an order of its own, cut at `max_tokens`.

    A function of its arguments alone, so that a resumed run sees what an uninterrupted one sees.
    """
    packs: list[Pack] = []
    tokens = 0
    for epoch in range(epochs):
        order = random.Random(f"{seed}/{epoch}")
        shuffled = list(sequences)
        order.shuffle(shuffled)
        filled = fill(shuffled, size)
        order.shuffle(filled)
        for pack in filled:
            if tokens + len(pack) > max_tokens and packs:
                return packs
            packs.append(pack)
            tokens += len(pack)
    return packs


def collate(packs: Sequence[Pack], tasks: Sequence[str] = ()) -> dict[str, Tensor]:
    """The tensors of one row of packs.

    `input_ids`, `position_ids`, `labels`, `weights`, `marks`, `segments`, `tasks`: (1, T); `boundaries`: (S + 1,) offsets into
    the row; `numbers`: (S,). A token's task is its place in `tasks`, 0 where that names none. Where sequences have contrasts,
    these make a row of their own under the same names behind `contrast_`, with `contrast_owners`: the number within this row of
    the sequence that each is set against.
    Labels are shifted already: position t holds the token to predict from t. They stand under `shift_labels` too, the name
    by which Trainer counts trained tokens without shifting once more.
    """
    sequences = [sequence for pack in packs for sequence in pack.sequences]
    names = ("input_ids", "position_ids", "labels", "weights", "marks", "segments", "tasks")
    columns: dict[str, list[Any]] = {name: [] for name in names}
    boundaries = [0]
    for number, sequence in enumerate(sequences):
        ids, weights = sequence.ids, sequence.weights
        columns["input_ids"] += ids
        columns["position_ids"] += range(len(ids))
        columns["labels"] += [ids[t] if weights[t] > 0 else IGNORE for t in range(1, len(ids))] + [IGNORE]
        columns["weights"] += [*weights[1:], 0.0]
        columns["marks"] += [*sequence.marks[1:], 0] if sequence.marks else [0] * len(ids)
        columns["segments"] += [number] * len(ids)
        columns["tasks"] += [tasks.index(sequence.task) if tasks else 0] * len(ids)
        boundaries.append(boundaries[-1] + len(ids))
    row = {name: torch.tensor([values]) for name, values in columns.items()}
    row["weights"] = row["weights"].float()
    row |= {"shift_labels": row["labels"], "boundaries": torch.tensor(boundaries, dtype=torch.int32)}
    row["numbers"] = torch.tensor([sequence.number for sequence in sequences])
    owners = [number for number, sequence in enumerate(sequences) for _ in sequence.contrasts]
    if owners:
        theirs = collate([Pack(tuple(contrast for sequence in sequences for contrast in sequence.contrasts))])
        row |= {CONTRAST + name: tensor for name, tensor in theirs.items()}
        row[CONTRAST + "owners"] = torch.tensor(owners)
    return row


def by_budget(sequences: Sequence[Encoded], max_tokens: int) -> Iterator[Pack]:
    """Packs for scoring: sequences sorted by length, as many as fit `max_tokens`, at least one."""
    return (Pack(tuple(group)) for group in groups(sequences, max_tokens, len))


def groups(rows: Iterable[T], max_tokens: int, length: Callable[[T], int]) -> Iterator[list[T]]:
    """The rows in order of length, as many together as fit `max_tokens`, at least one."""
    waiting: list[T] = []
    size = 0
    for row in sorted(rows, key=length):
        if waiting and size + length(row) > max_tokens:
            yield waiting
            waiting, size = [], 0
        waiting.append(row)
        size += length(row)
    if waiting:
        yield waiting
