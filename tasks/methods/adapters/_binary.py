"""Branches of two matrices that are trained in 2^b values, with dropout and perhaps ReLU between them, beside a layer or a block."""

from typing import Protocol

from torch import Tensor, nn
from torch.nn import functional as F

from tasks.core.weights import levels, surgery

FULL = 32
"""The number of bits that means no quantisation: the control."""
DEVIATION = 1e-3
"""Standard deviation of the initial numbers of B. It is not zero, because a matrix of zeros has no deviation and would stay zero."""


class BranchConfig(Protocol):
    """The settings that these adapters have in common."""

    @property
    def rank(self) -> int: ...
    @property
    def bits(self) -> int: ...
    @property
    def scale(self) -> float: ...
    @property
    def dropout(self) -> float: ...


def in_use(matrix: Tensor, bits: int) -> Tensor:
    """Return a matrix quantised to 2^bits values; unchanged for 32 bits."""
    return matrix if bits == FULL else levels.quantised(matrix, bits)


class Branch(nn.Module):
    """The branch s B dropout(f(A x)), with f the identity or ReLU. A and B are used in 2^b values and trained in at least fp32."""

    def __init__(self, config: BranchConfig, inputs: int, outputs: int, beside: Tensor, *, relu: bool = False) -> None:
        super().__init__()
        self.bits, self.scale, self.relu = config.bits, config.scale, relu
        self.dropout = nn.Dropout(config.dropout)
        like = surgery.like(beside)
        self.A_RI = nn.Parameter(like.new_empty(config.rank, inputs))
        self.B_OR = nn.Parameter(like.new_empty(outputs, config.rank))
        nn.init.kaiming_uniform_(self.A_RI, a=5**0.5)
        nn.init.trunc_normal_(self.B_OR, std=DEVIATION, a=-2 * DEVIATION, b=2 * DEVIATION)

    def used(self) -> tuple[Tensor, Tensor]:
        """Return A and B as they are used."""
        return in_use(self.A_RI, self.bits), in_use(self.B_OR, self.bits)

    def forward(self, x: Tensor) -> Tensor:
        a_RI, b_OR = self.used()
        hidden = F.linear(x.to(a_RI.dtype), a_RI)
        return self.scale * F.linear(self.dropout(F.relu(hidden) if self.relu else hidden), b_OR)
