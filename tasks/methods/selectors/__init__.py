"""Selectors: which weights move, and when.

A selector's file holds `METHOD = Selector(params=…, choose=…)`. `choose(model, params, probe, seed)` narrows down what trains:
it clears `requires_grad` of parameters, or puts trainable deltas on frozen ones. Every parameter that may move at any time
requires a gradient when it returns, since the optimizer is made then.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tasks.core.params import Params
from tasks.core.training import Moment, Probe

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Selector:
    """One way of choosing what trains."""

    params: type[Params]
    choose: "Callable[[nn.Module, Any, Probe, int], None]"
    on_step: Callable[[Moment, Any], None] | None = None
    """Called before every optimizer step, the first of a resumed run included."""
    merge: "Callable[[nn.Module], None] | None" = None
    """Writes what `choose` has put beside weights into them, exactly; needed where it put anything."""
    alone: str = ""
    """Why several processes cannot share its training, where they cannot."""
    wraps: str = ""
    """The library class that does it."""
