"""Expanders: add layers that do not change the model's function until they are trained.

An expander's folder holds `SPEC = ExpanderSpec(config=…)` and `METHOD = Expander(expand=…)`. `expand(model, config, probe,
seed)` grows the model in place, sets `requires_grad` on the parameters to train, and returns facts about it (JSON) that are written
beside the weights. Afterwards the function is still the base's. A grown model is an ordinary model with more layers; it cannot be
merged back.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tasks.core.training import Moment, Probe
from tasks.methods import TrainingSpec

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True, kw_only=True)
class ExpanderSpec(TrainingSpec):
    """The facts about an expander."""

    group_each: bool = False
    """True if every tensor is an optimizer group of its own."""


@dataclass(frozen=True, kw_only=True)
class Expander:
    """One way of making a model deeper."""

    expand: "Callable[[nn.Module, Any, Probe, int], Mapping[str, Any]]"
    on_step: Callable[[Moment, Any], None] | None = None
    """Called before every optimizer step."""
