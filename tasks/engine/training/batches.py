"""The packs of a training in their order, and how they fall into optimizer steps."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from tasks.core.sequences import Column, Encoded
from tasks.core.training import Training
from tasks.engine import device
from tasks.engine.packing import Pack, Packs, collate, schedule
from tasks.engine.sequences import listed


@dataclass(frozen=True)
class Batches:
    """The packs of a training, cut into steps."""

    packs: Packs
    packs_per_step: int
    """Packs of one optimizer step, over all processes that share the training."""
    tasks: tuple[str, ...]
    """The tasks, in the order of the task numbers in the packs' tensors."""
    columns: Sequence[Column] = ()
    """Further values of each token, which the objective reads."""
    left_out: tuple[int, int] = (0, 0)
    """The number of packs at the end that do not train, because the processes cannot share them evenly, and of their sequences."""

    @property
    def steps(self) -> int:
        return math.ceil(len(self.packs) / self.packs_per_step)

    def of_step(self, step: int) -> list[Pack]:
        """Return the packs of a step, counted from 1; the last step may have fewer."""
        return self.packs[(step - 1) * self.packs_per_step : step * self.packs_per_step]

    def by_task(self, step: int) -> tuple[list[int], list[int]]:
        """Return the trained tokens and the sequences of every task in a step, counted from 1."""
        facts, size = self.packs.sequences.facts, self.packs_per_step
        places = self.packs.places_of((step - 1) * size, size)
        tasks = facts.tasks.take(places).within(self.tasks) + 1  # 0 is a name that is not among them
        tokens = np.bincount(tasks, facts.trained[places], len(self.tasks) + 1)[1:]
        return tokens.astype(np.int64).tolist(), np.bincount(tasks, minlength=len(self.tasks) + 1)[1:].tolist()

    def with_auxiliary(self, step: int) -> int:
        """Return the number of sequences with auxiliary sequences in a step, counted from 1."""
        size = self.packs_per_step
        return int(self.packs.sequences.facts.auxiliary[self.packs.places_of((step - 1) * size, size)].sum())

    @cached_property
    def tokens_after(self) -> list[int]:
        """Tokens seen after each step."""
        return self._after_steps(self.packs.tokens)

    @cached_property
    def sequences_after(self) -> list[int]:
        """Sequences seen after each step."""
        return self._after_steps(self.packs.counts)

    def _after_steps(self, counts: NDArray[Any]) -> list[int]:
        totals, size = np.cumsum(counts).tolist(), self.packs_per_step
        return [*totals[size - 1 :: size], *([totals[-1]] if len(totals) % size else [])]


def lay_out(
    sequences: Sequence[Encoded], tasks: tuple[str, ...], columns: Sequence[Column], config: Training
) -> Batches:
    """Pack the sequences of all epochs, up to `config.max_tokens`, in training order.

    Raises ValueError if the epochs contain no sequence.
    """
    packs = schedule(sequences, config.pack_tokens, config.max_tokens, config.epochs, config.seed)
    if not packs:
        raise ValueError(
            f"Nothing trains: a mixture has {listed(sequences).per_epoch:.2g} of {len(sequences)} sequences seen in an epoch, and epochs: "
            f"{config.epochs} draws none of them. Raise epochs, or the weights and passes in tune.mixture."
        )
    processes = device.processes()
    kept = packs.first(max(len(packs) // processes, 1) * processes)  # every process takes part in every step
    left_out = len(packs) - len(kept), int(packs.counts.sum() - kept.counts.sum())
    return Batches(kept, config.accumulation * processes, tasks, columns, left_out)


class PackDataset(Dataset[dict[str, Tensor]]):
    """The packs as rows of tensors. Each row comes with counts of its whole step: trained tokens and examples of every task, and examples with
    auxiliary sequences."""

    def __init__(self, batches: Batches) -> None:
        self._batches = batches

    def __len__(self) -> int:
        return len(self._batches.packs)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        batches = self._batches
        step = index // batches.packs_per_step + 1
        tokens, examples = batches.by_task(step)
        row = collate([batches.packs[index]], batches.tasks, batches.columns)
        row |= {"task_tokens": torch.tensor(tokens), "task_examples": torch.tensor(examples)}
        return row | {"with_auxiliary": torch.tensor(batches.with_auxiliary(step))}
