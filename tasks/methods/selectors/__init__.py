"""Selectors: which weights move, and when.

A selector's file holds `METHOD = Selector(params=…, choose=…)`. `choose(model, params)` sets `requires_grad` of the parameters
that an adapter left for it to decide.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tasks.core.params import Params

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Selector:
    """One way of choosing what trains."""

    params: type[Params]
    choose: "Callable[[nn.Module, Any], None]"
