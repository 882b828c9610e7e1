"""Objectives: the loss of a step from the losses of its tokens.

An objective's file holds `METHOD = Objective(params=…, loss=…)`. `loss(nll, tokens, params)` is this pack's share: the engine
adds up the packs of a step and divides by the step's trained tokens.
Shapes: N = trained tokens of the pack, K = tasks.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tasks.core.params import Params
from tasks.core.training import Moment

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Tokens:
    """What is known of the N trained tokens beside their losses."""

    weights: "Tensor"
    """Weight of each token, (N,)."""
    segments: "Tensor"
    """Number of the example within the pack that each token belongs to, (N,)."""
    tasks: "Tensor"
    """Number of each token's task, (N,)."""
    task_tokens: "Tensor"
    """Trained tokens of each task in the whole step, (K,)."""
    task_examples: "Tensor"
    """Examples of each task in the whole step, (K,)."""
    task_weights: "Tensor | None" = None
    """Weight of each task as `on_step` has left it in `Moment.state["task_weights"]`, (K,)."""


@dataclass(frozen=True)
class Objective:
    """One way of weighing the losses of tokens."""

    params: type[Params]
    loss: "Callable[[Tensor, Tokens, Any], Tensor]"
    on_step: Callable[[Moment, Any], None] | None = None
    """Called before every optimizer step."""
    hits: bool = False
    """Whether it is given, in place of the losses, 1.0 for each token that is the model's first choice and 0.0 for others:
    a score without gradient, for optimizers that need none."""
    alone: str = ""
    """Why several processes cannot share its training, where they cannot."""
    wraps: str = ""
    """The library class that does it."""
