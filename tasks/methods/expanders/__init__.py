"""Expanders: more layers, which compute nothing new until they are trained.

An expander's file holds `METHOD = Expander(params=…, expand=…)`. `expand(model, params, probe, seed)` grows the model in place,
sets `requires_grad` to what is to train, and returns facts about it (JSON) that are written beside the weights. The function
is the base's afterwards. A grown model is an ordinary model with more layers; it cannot be merged back.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tasks.core.params import Params
from tasks.core.training import Moment, Probe

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Expander:
    """One way of making a model deeper."""

    params: type[Params]
    expand: "Callable[[nn.Module, Any, Probe, int], Mapping[str, Any]]"
    on_step: Callable[[Moment, Any], None] | None = None
    """Called before every optimizer step."""
    group_each: bool = False
    """Whether every tensor is an optimizer group of its own."""
    alone: str = ""
    """Why several processes cannot share its training, where they cannot."""
    wraps: str = ""
    """The library class that does it."""
