"""The packs of a training in their order, and how they fall into optimizer steps."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate

import torch
from torch import Tensor
from torch.utils.data import Dataset

from tasks.core.sequences import Column, Encoded
from tasks.core.training import Training
from tasks.engine import device
from tasks.engine.packing import Pack, collate, schedule


@dataclass(frozen=True)
class Batches:
    """The packs of a training, cut into steps."""

    packs: Sequence[Pack]
    packs_per_step: int
    """Packs of one optimizer step, over all processes that share the training."""
    tasks: tuple[str, ...]
    """Names of the task numbers in the packs' tensors."""
    columns: Sequence[Column] = ()
    """Further values of each token that the objective reads."""

    @property
    def steps(self) -> int:
        return math.ceil(len(self.packs) / self.packs_per_step)

    def of_step(self, step: int) -> Sequence[Pack]:
        """Return the packs of a step, counted from 1; the last step may have fewer."""
        return self.packs[(step - 1) * self.packs_per_step : step * self.packs_per_step]

    @cached_property
    def tokens_after(self) -> list[int]:
        """Tokens seen after each step."""
        return self._after_steps(map(len, self.packs))

    @cached_property
    def sequences_after(self) -> list[int]:
        """Sequences seen after each step."""
        return self._after_steps(len(pack.sequences) for pack in self.packs)

    def _after_steps(self, counts: Iterable[int]) -> list[int]:
        totals, size = list(accumulate(counts)), self.packs_per_step
        return [*totals[size - 1 :: size], *([totals[-1]] if len(totals) % size else [])]


def lay_out(
    sequences: Sequence[Encoded], tasks: tuple[str, ...], columns: Sequence[Column], config: Training
) -> Batches:
    """Pack the sequences of all epochs, up to `config.max_tokens`, in the order in which they train."""
    packs = schedule(sequences, config.pack_tokens, config.max_tokens, config.epochs, config.seed)
    processes = device.processes()
    packs = packs[: max(len(packs) // processes, 1) * processes]  # every process takes part in every step
    return Batches(packs, config.accumulation * processes, tasks, columns)


class PackDataset(Dataset[dict[str, Tensor]]):
    """The packs as rows of tensors, each with the number of trained tokens and examples of every task in its step."""

    def __init__(self, batches: Batches) -> None:
        self._batches = batches

    def __len__(self) -> int:
        return len(self._batches.packs)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        batches = self._batches
        step = index // batches.packs_per_step + 1
        sequences = [sequence for pack in batches.of_step(step) for sequence in pack.sequences]
        tokens = [sum(s.num_trained for s in sequences if s.task == task) for task in batches.tasks]
        examples = [sum(s.task == task for s in sequences) for task in batches.tasks]
        row = collate([batches.packs[index]], batches.tasks, batches.columns)
        return row | {"task_tokens": torch.tensor(tokens), "task_examples": torch.tensor(examples)}
