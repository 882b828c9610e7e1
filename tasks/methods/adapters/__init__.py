"""Adapters: new modules beside frozen weights.

An adapter's file holds `METHOD = Adapter(params=…, attach=…)`. `attach(model, params)` freezes the model, puts the new modules
in and returns the model to train; at that moment the function is still the base's, or the method's card says what differs.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tasks.core.params import Params

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Adapter:
    """One way of putting trainable modules into a model."""

    params: type[Params]
    attach: "Callable[[nn.Module, Any], nn.Module]"
    mergeable: bool
    """Whether merged plain weights compute the same function."""
