"""Selectors: the choice of the weights that train, and when.

A selector's folder holds `SPEC = SelectorSpec(config=…)` and `METHOD = Selector(choose=…)`. `choose(model, config, probe,
seed)` restricts what trains: it clears `requires_grad` of parameters, or puts trainable deltas on frozen ones. Every
parameter that may train at any time must require a gradient when it returns, since the optimizer is made then. The further tensors of
deltas (`tasks.core.weights.deltas.kept`) are written into checkpoints and restored.
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
    """True if the selector puts deltas beside weights (`tasks.core.weights.deltas`), which the engine merges after the training."""
    needs_linear: bool = False
    """True if the selector scales an adapter's update through the tensors in which the update is linear (`AdapterSpec.linear`)."""
    needs_gradient: Callable[[Any], bool] = lambda config: False
    """Return whether the selector, with this config, reads or changes gradients of steps, which gradient-free optimizers do not have."""
    least_steps: Callable[[Any], int] = lambda config: 1
    """Return the fewest steps of a training in which the selector, with this config, has an effect."""


@dataclass(frozen=True, kw_only=True)
class Selector:
    """One way of choosing what trains."""

    choose: "Callable[[nn.Module, Any, Probe, int], None]"
    on_step: Callable[[Moment, Any], None] | None = None
    """Called before every optimizer step, including the first one of a resumed run."""
    draws_every: Callable[[Any], int] | None = None
    """Returns, for a config, the steps between random draws of the layers that train; None if layers are not drawn."""
