"""Attention over only some blocks of each sequence. Equations and the legend of symbols are in the card, `__init__.py`.

Shapes: T = tokens of the row, K = kept tokens, H = hidden size, A = heads, D = width of a head, b = blocks of a sequence.
"""

import math
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from tasks.core.config import share_of
from tasks.core.weights.row import Passage
from tasks.core.weights.surgery import base_layer
from tasks.methods.sparsifiers.lemo.config import LemoConfig


@dataclass
class Draws:
    """The state that determines the random draws of a step, besides layer and sequence."""

    seed: int
    passage: Passage
    step: int = 0

    def of(self, layer: int, sequence: int) -> random.Random:
        """Return the generator of a sequence's draw in a layer."""
        look = self.passage.row.look if self.passage.row else 0
        return random.Random(f"{self.seed}/{self.step}/{layer}/{look}/{sequence}")


class Elimination:
    """The forward of a layer's attention, which leaves blocks out in training mode."""

    def __init__(self, attention: Any, layer: int, config: LemoConfig, draws: Draws) -> None:
        self.attention, self.inner = attention, attention.forward
        self.layer, self.config, self.draws = layer, config, draws

    def __call__(self, hidden_states: Tensor, boundaries: Tensor | None = None, **inputs: Any) -> Any:
        if not self.attention.training:
            return self.inner(hidden_states=hidden_states, boundaries=boundaries, **inputs)
        length = hidden_states.shape[1]
        edges = [0, length] if boundaries is None else boundaries.tolist()
        kept_K, ends = self.kept(hidden_states[0].detach(), edges)
        if len(kept_K) == length:
            return self.inner(hidden_states=hidden_states, boundaries=boundaries, **inputs)
        kept_edges = torch.tensor(ends, dtype=torch.int32, device=hidden_states.device)
        inputs["position_embeddings"] = tuple(angles[:, kept_K] for angles in inputs["position_embeddings"])
        inputs["places"] = kept_K
        with self._row_of_kept(kept_edges):
            output_1KH, weights = self.inner(hidden_states=hidden_states[:, kept_K], boundaries=kept_edges, **inputs)
        output_1TH = output_1KH.new_zeros(1, length, output_1KH.shape[2])
        output_1TH[:, kept_K] = output_1KH  # `index_copy` would save its source for the backward pass
        return output_1TH, weights

    @torch.no_grad()
    def kept(self, hidden_TH: Tensor, edges: Sequence[int]) -> tuple[Tensor, list[int]]:
        """Return the indices of the kept tokens, ascending, (K,), and the boundaries of the sequences among them, from 0 on."""
        runs, ends = [], [0]
        for sequence, (start, end) in enumerate(pairwise(edges)):
            blocks = math.ceil((end - start) / self.config.block)
            tokens = 0
            for number in self._blocks(hidden_TH[start:end], blocks, sequence):
                first = start + number * self.config.block
                runs.append(range(first, min(first + self.config.block, end)))
                tokens += len(runs[-1])
            ends.append(ends[-1] + tokens)
        numbers = [number for run in runs for number in run]
        return torch.tensor(numbers, device=hidden_TH.device), ends

    def _blocks(self, hidden_TH: Tensor, blocks: int, sequence: int) -> list[int]:
        """Return the numbers of the blocks of a sequence that stay, ascending."""
        count = max(2, share_of(blocks, self.config.keep))
        if count >= blocks:
            return list(range(blocks))
        between = list(range(1, blocks - 1))
        match self.config.blocks:
            case "recent":
                chosen = between[len(between) - (count - 2) :]
            case "random":
                chosen = self.draws.of(self.layer, sequence).sample(between, count - 2)
            case _:
                scores = block_map(self.attention, hidden_TH, self.config).sum(dim=0).tolist()
                chosen = sorted(between, key=lambda number: -scores[number])[: count - 2]
        return sorted([0, *chosen, blocks - 1])

    @contextmanager
    def _row_of_kept(self, boundaries: Tensor) -> Iterator[None]:
        """Inside the context, give modules that listen within attention the boundaries of the kept tokens."""
        passage = self.draws.passage
        row = passage.row
        passage.row = replace(row, boundaries=boundaries) if row else None
        try:
            yield
        finally:
            passage.row = row


def block_map(attention: Any, hidden_TH: Tensor, config: LemoConfig) -> Tensor:
    """Return P of a sequence, (b, b): from the means of blocks, or with `exact` the maximum over the tokens of both blocks."""
    pieces = torch.split(hidden_TH, config.block)
    if config.blocks == "exact":
        key_ATD = _heads(attention, "k", hidden_TH)
        rows = [F.relu(_heads(attention, "q", piece) @ key_ATD.mT).sum(dim=0).amax(dim=0) for piece in pieces]
        return torch.stack([torch.stack([part.amax() for part in torch.split(row_T, config.block)]) for row_T in rows])
    mean_bH = torch.stack(
        [piece.mean(dim=0, dtype=torch.promote_types(piece.dtype, torch.float32)) for piece in pieces]
    )
    mean_bH = mean_bH.to(hidden_TH.dtype)
    return F.relu(_heads(attention, "q", mean_bH) @ _heads(attention, "k", mean_bH).mT).sum(dim=0)


def _heads(attention: Any, side: str, x_NH: Tensor) -> Tensor:
    """Return queries or keys before the rotary embedding, by the frozen projection, in at least fp32, (A, N, D)."""
    states = base_layer(getattr(attention, f"{side}_proj"))(x_NH)
    norm: Any = getattr(attention, f"{side}_norm", None)
    of_all_heads = norm is not None and norm.weight.shape[-1] == states.shape[-1]  # as OLMo 2 has
    if of_all_heads:
        states = norm(states)
    states_NAD: Tensor = states.unflatten(-1, (-1, attention.head_dim))
    if norm is not None and not of_all_heads:  # as Qwen3 has
        states_NAD = norm(states_NAD)
    if side == "k":
        states_NAD = states_NAD.repeat_interleave(attention.num_key_value_groups, dim=1)
    return states_NAD.transpose(0, 1).to(torch.promote_types(states_NAD.dtype, torch.float32))
