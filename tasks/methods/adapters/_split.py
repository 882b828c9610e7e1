"""Matrices that train one randomly drawn part at a time and are used as the mean over their parts, for MoSA and MoSL."""

import random
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tasks.core.training import Moment
from tasks.core.weights import surgery
from tasks.core.weights.row import Passage
from tasks.methods.adapters._split_config import SplitConfig


class Draws:
    """Draws the part of a matrix that a look at a row trains in this step; the part depends on seed, step, matrix and look alone."""

    def __init__(self, seed: int, passage: Passage) -> None:
        self.seed, self.step, self.passage = seed, 0, passage

    def part(self, matrix: str, parts: int) -> int | None:
        """Return the number of the part, from 0 on; None outside of training steps, where all parts are used."""
        row = self.passage.row
        if row is None or not row.training:
            return None
        return random.Random(f"{self.seed}/{self.step}/{matrix}/{row.look}").randrange(parts)


def divide(scores: Tensor, parts: int) -> Tensor:
    """Return the part number of each entry of a matrix, in the matrix's shape: entries are ranked by score and cut into equal runs."""
    numel = scores.numel()
    ends = torch.tensor([numel * (part + 1) // parts for part in range(parts)])
    part_of = torch.empty(numel, dtype=torch.uint8)
    part_of[scores.flatten().argsort(stable=True)] = torch.bucketize(torch.arange(numel), ends, right=True).to(
        torch.uint8
    )
    return part_of.view(scores.shape)


class Split(nn.Module):
    """A matrix, and perhaps a vector of biases, that train in E disjoint parts.

    In a look of a training step the matrix is its start plus one part, unscaled; otherwise it is its start plus the sum of all parts over E.
    Each part has biases of its own.
    """

    start_OI: Tensor | None
    part_OI: Tensor

    def __init__(self, start_OI: Tensor, parts: int, *, bias: bool, draws: Draws, name: str) -> None:
        super().__init__()
        self.parts, self.draws, self.name = parts, draws, name
        self.register_buffer("start_OI", start_OI if start_OI.any() else None)
        self.register_buffer("part_OI", divide(torch.rand(start_OI.shape), parts).to(start_OI.device))
        sizes = [start_OI.numel() * (part + 1) // parts - start_OI.numel() * part // parts for part in range(parts)]
        # One row each, so that weight decay treats them as matrices
        self.change = nn.ParameterList([nn.Parameter(start_OI.new_zeros(1, size)) for size in sizes])
        width = len(start_OI) if bias else 0
        self.bias = nn.ParameterList([nn.Parameter(start_OI.new_zeros(width)) for _ in range(parts) if bias])

    def weight(self, part: int | None) -> Tensor:
        """Return the matrix with this part alone, or the mean over all parts."""
        part_N = self.part_OI.flatten()
        added_N = self.change[0].new_zeros(len(part_N))
        for number in range(self.parts) if part is None else (part,):
            added_N = added_N.masked_scatter(part_N == number, self.change[number])
        change_OI = (added_N / self.parts if part is None else added_N).view_as(self.part_OI)
        return change_OI if self.start_OI is None else self.start_OI + change_OI

    def offset(self, part: int | None) -> Tensor | None:
        """Return the biases of this part, or their mean over all parts; None without biases."""
        if not len(self.bias):
            return None
        return torch.stack(list(self.bias)).mean(dim=0) if part is None else self.bias[part]

    def forward(self, x: Tensor) -> Tensor:
        part = self.draws.part(self.name, self.parts)
        return F.linear(x, self.weight(part), self.offset(part))


class Dense(nn.Module):
    """A matrix, and perhaps a vector of biases, that train as a whole in every step."""

    def __init__(self, start_OI: Tensor, *, bias: bool) -> None:
        super().__init__()
        self.W_OI = nn.Parameter(start_OI)
        self.b_O = nn.Parameter(start_OI.new_zeros(len(start_OI))) if bias else None

    def weight(self, part: int | None) -> Tensor:
        """Return the matrix."""
        return self.W_OI

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.W_OI, self.b_O)


class Pair(nn.Module):
    """The pair up(dropout(f(down(x)))), in which one matrix or both are split. `up` starts at zero."""

    down: Split | Dense
    up: Split | Dense

    def __init__(
        self,
        config: SplitConfig,
        inputs: int,
        outputs: int,
        beside: Tensor,
        draws: Draws,
        name: str,
        *,
        gelu: bool = False,
    ) -> None:
        super().__init__()
        self.gelu, self.dropout = gelu, nn.Dropout(config.dropout)
        like = surgery.like(beside)
        self.dtype = like.dtype
        first_RI = like.new_empty(config.rank, inputs)
        nn.init.kaiming_uniform_(first_RI, a=5**0.5)
        starts = {"down": first_RI, "up": like.new_zeros(outputs, config.rank)}
        for side, start in starts.items():
            if config.share == side or config.parts == 1:
                matrix: Split | Dense = Dense(start, bias=gelu)
            else:
                matrix = Split(start, config.parts, bias=gelu, draws=draws, name=f"{name}.{side}")
            self.add_module(side, matrix)

    def forward(self, x: Tensor) -> Tensor:
        inner = self.down(x.to(self.dtype))
        out: Tensor = self.up(self.dropout(F.gelu(inner) if self.gelu else inner))
        return out


def on_step(moment: Moment, config: Any) -> None:
    """Set step and seed of the draws, so that the looks of this step train parts of their own."""
    for module in moment.model.modules():
        if isinstance(module, Split):
            module.draws.step, module.draws.seed = moment.step, moment.seed
