"""Matrices in few levels: the levels of a standard normal distribution, the quantisation of a matrix to 2^b values, and the packing of level numbers.

Shapes: L = 2^b levels, N = numbers, P = their bytes.
"""

from functools import cache
from typing import Any

import torch
from torch import Tensor

PRECISION = 1e-12
"""The iteration for the levels ends when no level moves by more than this."""
SPREAD = 1e-5
"""Added to the standard deviation by which a matrix is divided during training, as in the authors' code."""


@cache
def codebook(bits: int) -> tuple[Tensor, Tensor]:
    """Return the levels of a standard normal distribution, each the median of its cell, (L,), and the edges between cells, (L - 1,), in float64.

    Levels c_k and edges t_k satisfy t_k = (c_k + c_k+1) / 2 and c_k = F^-1((F(t_k-1) + F(t_k)) / 2), where F is the normal distribution function.
    """
    shares = torch.linspace(0, 1, 2**bits + 1, dtype=torch.float64)  # F of the edges, including the infinite ones
    levels = torch.full((2**bits,), torch.inf, dtype=torch.float64)
    while True:
        medians = torch.special.ndtri((shares[1:] + shares[:-1]) / 2)
        edges = (medians[1:] + medians[:-1]) / 2
        if (medians - levels).abs().max() < PRECISION:
            return medians, edges
        levels = medians
        shares[1:-1] = torch.special.ndtr(edges)


class _Nearest(torch.autograd.Function):
    """The level nearest to each number. The gradient passes unchanged (straight-through estimator)."""

    @staticmethod
    def forward(context: Any, normal: Tensor, bits: int) -> Tensor:
        levels, edges = (table.to(normal) for table in codebook(bits))
        return levels[torch.bucketize(normal, edges)]

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0], None


def quantised(matrix: Tensor, bits: int, spread: float = SPREAD) -> Tensor:
    """Return a matrix quantised to 2^bits values: its mean, plus its standard deviation times the level nearest to each number.

    Mean and deviation have their own gradients, and the levels pass theirs on. To quantise the result again gives another matrix, because its
    mean and deviation differ. `spread` is added to the deviation by which numbers are divided. A matrix whose deviation is not far above it
    gets only the inner levels. The matrix must have at least two numbers.
    """
    mean, deviation = matrix.mean(), matrix.std()
    nearest: Tensor = _Nearest.apply((matrix - mean) / (deviation + spread), bits)  # type: ignore[no-untyped-call]
    return deviation * nearest + mean


def pack(index_N: Tensor, bits: int) -> Tensor:
    """Return numbers below 2^bits as bytes, (P,), with 8 / bits numbers in each, the first in the lowest bits. The last byte is padded with zeros."""
    per_byte = 8 // bits
    padded = torch.nn.functional.pad(index_N.to(torch.uint8), (0, -len(index_N) % per_byte))
    return (padded.view(-1, per_byte) << _shifts(bits)).sum(dim=1, dtype=torch.uint8)


def unpack(bytes_P: Tensor, bits: int, count: int) -> Tensor:
    """Return the first `count` numbers that `pack` put into bytes, (N,)."""
    return ((bytes_P[:, None] >> _shifts(bits)) & (2**bits - 1)).flatten()[:count]


def _shifts(bits: int) -> Tensor:
    return torch.arange(0, 8, bits, dtype=torch.uint8)
