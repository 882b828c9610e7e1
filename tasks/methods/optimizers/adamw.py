"""AdamW: Adam with weight decay apart from the gradient.

Loshchilov & Hutter 2017, https://arxiv.org/abs/1711.05101, algorithm 2. A wrapper over `torch.optim.AdamW`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pydantic import Field

from tasks.core.params import Params
from tasks.core.training import Group
from tasks.methods.optimizers import Optimizer, param_groups

if TYPE_CHECKING:
    from torch import optim


class AdamwParams(Params):
    """The `methods.adamw` section."""

    learning_rate: float = Field(5e-4, gt=0)
    """Peak of the schedule."""
    betas: tuple[float, float] = (0.9, 0.999)
    """Decay of the running mean and of the running square."""
    eps: float = Field(1e-8, gt=0)
    """Added to the root of the running square."""
    weight_decay: float = Field(0.0, ge=0)
    """Decay of matrices. Vectors (norms, biases) are never decayed."""


def make(groups: Sequence[Group], params: AdamwParams, seed: int) -> optim.Optimizer:
    """AdamW over `groups`."""
    from torch.optim import AdamW

    settings = param_groups(groups, params.learning_rate, params.weight_decay)
    return AdamW(settings, lr=params.learning_rate, betas=params.betas, eps=params.eps)


METHOD = Optimizer(params=AdamwParams, make=make, wraps="torch.optim.AdamW")
