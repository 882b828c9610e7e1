"""The record of gradients that SpIEL keeps between two changes of the entries, in buffers of the layers, which checkpoints hold."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from tasks.core.weights.deltas import DeltaLinear

UNSEEN = -1
"""The value of a candidate before the first gradient of a phase."""


class Growth(NamedTuple):
    """The entries of a layer that change."""

    places_M: Tensor
    """Their places in `DeltaLinear.index`."""
    entries_M: Tensor
    """The new entries of the flattened weight at these places."""
    mean_M: Tensor
    """The mean gradient at the new entries."""
    square_M: Tensor
    """The mean squared gradient at the new entries."""


class Memory(nn.Module, ABC):
    """The record of one layer."""

    pending: Tensor
    """The gradient of the current step, (K,)."""

    def __init__(self, layer: DeltaLinear) -> None:
        super().__init__()
        self.register_buffer("pending", torch.zeros_like(layer.delta.detach()))

    @abstractmethod
    def watch(self, layer: DeltaLinear, grad_OI: Tensor) -> None:
        """Take a pack's gradient of the whole weight."""

    @abstractmethod
    def take_in(self, layer: DeltaLinear) -> None:
        """Add the gradient of a completed step to the record."""

    @abstractmethod
    def grown(self, layer: DeltaLinear, weakest_M: Tensor, state: Mapping[str, Any]) -> Growth:
        """Return the new entries for the places `weakest_M`; `state` is the optimizer's state."""


class Accumulated(Memory):
    """Gradients of candidates, summed over the steps of a phase (AG)."""

    candidates: Tensor
    total: Tensor
    squares: Tensor
    steps: Tensor

    def __init__(self, layer: DeltaLinear) -> None:
        super().__init__(layer)
        self.register_buffer("candidates", torch.full_like(layer.index, UNSEEN))
        for name in ("total", "squares"):
            self.register_buffer(name, torch.zeros_like(self.pending))
        self.register_buffer("steps", self.pending.new_zeros(()))

    def begin(self) -> None:
        """Clear the record of the previous phase."""
        self.candidates.fill_(UNSEEN)
        for buffer in (self.pending, self.total, self.squares, self.steps):
            buffer.zero_()

    @torch.no_grad()
    def watch(self, layer: DeltaLinear, grad_OI: Tensor) -> None:
        """Add a pack's gradient of the candidates, which the first pack of a phase chooses by the size of its gradient."""
        flat = grad_OI.flatten()
        if self.candidates[0] == UNSEEN:
            self.candidates.copy_(flat.abs().topk(len(self.candidates)).indices)
        self.pending += flat[self.candidates]

    @torch.no_grad()
    def take_in(self, layer: DeltaLinear) -> None:
        """Add the gradient of a step. A gradient of zeros means that the step was left out or not watched."""
        if self.pending.any():
            self.total += self.pending
            self.squares += self.pending.square()
            self.steps += 1
            self.pending.zero_()

    def grown(self, layer: DeltaLinear, weakest_M: Tensor, state: Mapping[str, Any]) -> Growth:
        """Grow the candidates of the largest summed gradient that do not train. An entry that is dropped and grown at once stays."""
        dropped = _marked(layer, layer.index[weakest_M])
        staying = _marked(layer, layer.index) & ~dropped
        if not self.steps:  # all steps of the phase were left out
            return Growth(weakest_M[:0], weakest_M[:0], self.total[:0], self.total[:0])
        score_K = self.total.abs().masked_fill(staying[self.candidates], -torch.inf)
        best_M = score_K.topk(min(len(weakest_M), int((score_K > -torch.inf).sum()))).indices
        grown = _marked(layer, self.candidates[best_M])
        best_M = best_M[~dropped[self.candidates[best_M]]]
        places_M = weakest_M[~grown[layer.index[weakest_M]]][: len(best_M)]
        mean_M, square_M = (kept[best_M] / self.steps for kept in (self.total, self.squares))
        return Growth(places_M, self.candidates[best_M], mean_M, square_M)


class Covered(Memory):
    """The largest bounds of squared gradients by row and by column, as SM3 keeps them (MA)."""

    rows: Tensor
    columns: Tensor

    def __init__(self, layer: DeltaLinear) -> None:
        super().__init__(layer)
        self.register_buffer("rows", self.pending.new_zeros(layer.out_features))
        self.register_buffer("columns", self.pending.new_zeros(layer.in_features))

    @torch.no_grad()
    def watch(self, layer: DeltaLinear, grad_OI: Tensor) -> None:
        """Add a pack's gradient of the entries that train."""
        self.pending += grad_OI.flatten()[layer.index]

    @torch.no_grad()
    def take_in(self, layer: DeltaLinear) -> None:
        """Update the bounds with the gradient of a step."""
        row_K, column_K = layer.index // layer.in_features, layer.index % layer.in_features
        bound_K = self._bound(row_K, column_K) + self.pending.square()
        self.rows.scatter_reduce_(0, row_K, bound_K, "amax")
        self.columns.scatter_reduce_(0, column_K, bound_K, "amax")
        self.pending.zero_()

    def grown(self, layer: DeltaLinear, weakest_M: Tensor, state: Mapping[str, Any]) -> Growth:
        """Grow the entries of the largest product of bounds that do not train."""
        score = torch.outer(self.rows, self.columns).flatten()
        score[layer.index] = -torch.inf
        places_M = weakest_M[: score.numel() - len(layer.index)]
        entries_M = score.topk(len(places_M)).indices
        bound_M = self._bound(entries_M // layer.in_features, entries_M % layer.in_features)
        return Growth(places_M, entries_M, torch.zeros_like(bound_M), bound_M / state.get("step", 1))

    def _bound(self, rows: Tensor, columns: Tensor) -> Tensor:
        return torch.minimum(self.rows[rows], self.columns[columns])


MEMORIES: dict[str, type[Memory]] = {"ag": Accumulated, "ma": Covered}


def memory_of(layer: DeltaLinear) -> Memory:
    """Return the record of a layer."""
    return cast(Memory, layer.memory)


def _marked(layer: DeltaLinear, entries: Tensor) -> Tensor:
    """Return a boolean mask of the flattened weight, True at these entries."""
    return torch.zeros(layer.weight.numel(), dtype=torch.bool, device=entries.device).index_fill(0, entries, True)
