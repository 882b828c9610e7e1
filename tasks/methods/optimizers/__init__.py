"""Optimizers: how a step is made from gradients.

An optimizer's file holds `METHOD = Optimizer(params=…, make=…)`. `make(model, params)` returns a torch optimizer over what
trains; its learning rate is the peak of the schedule.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tasks.core.params import Params

if TYPE_CHECKING:
    from torch import nn, optim


@dataclass(frozen=True)
class Optimizer:
    """One way of making a step."""

    params: type[Params]
    make: "Callable[[nn.Module, Any], optim.Optimizer]"
