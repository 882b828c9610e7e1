"""Selectors: the choice of weights that move, and when.

A selector's folder holds `SPEC = SelectorSpec(config=…)` and `METHOD = Selector(choose=…)`. `choose(model, config, probe,
seed)` narrows down what trains: it clears `requires_grad` of parameters, or puts trainable deltas on frozen ones. Every
parameter that may move at any time requires a gradient when it returns, since the optimizer is made then. What deltas keep beside
their numbers (`tasks.core.weights.deltas.kept`) is written into checkpoints and restored.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tasks.core.training import Moment, Probe
from tasks.methods import TrainingSpec

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True, kw_only=True)
class SelectorSpec(TrainingSpec):
    """The facts about a selector."""

    merges: bool = False
    """True where it puts deltas beside weights (`tasks.core.weights.deltas`), which the engine writes into them after the training."""
    needs_linear: bool = False
    """True where it scales an adapter's update by the tensors that this is linear in (`AdapterSpec.linear`)."""
    needs_gradient: Callable[[Any], bool] = lambda config: False
    """Return whether, with this config, it reads or changes gradients of steps, which optimizers without gradient do not have."""
    least_steps: Callable[[Any], int] = lambda config: 1
    """Return the steps, with this config, of the shortest training in which it does what it is for."""


@dataclass(frozen=True, kw_only=True)
class Selector:
    """One way of choosing what trains."""

    choose: "Callable[[nn.Module, Any, Probe, int], None]"
    on_step: Callable[[Moment, Any], None] | None = None
    """Called before every optimizer step, the first of a resumed run included."""
    draws_every: Callable[[Any], int] | None = None
    """The steps between draws of the layers that train, of a config; None where what trains is not drawn by layers."""
