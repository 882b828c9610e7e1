"""Objectives: the loss of a step from the losses of its tokens.

An objective's file holds `METHOD = Objective(params=…, loss=…)`. `loss(nll, tokens, params)` is the sum over a batch's trained
tokens; the engine divides it by the number of trained tokens of the whole accumulated step.
Shapes: N = trained tokens of the batch.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tasks.core.params import Params

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Tokens:
    """What is known of the N trained tokens beside their losses."""

    weights: "Tensor"
    """Weight of each token, (N,)."""
    segments: "Tensor"
    """Number of the example within the pack that each token belongs to, (N,)."""


@dataclass(frozen=True)
class Objective:
    """One way of weighing the losses of tokens."""

    params: type[Params]
    loss: "Callable[[Tensor, Tokens, Any], Tensor]"
