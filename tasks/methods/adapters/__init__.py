"""Adapters: new modules beside frozen weights.

An adapter's file holds `METHOD = Adapter(params=…, attach=…, merge=…)`. `attach(model, params)` freezes the model, puts the
new modules in and returns the model to train: its argument, changed in place, or peft's wrapper around it. At that moment
the function is still the base's, or the method's card says what differs. What requires a gradient then is what a saved
adapter holds, so `attach` must build the rest from the base's weights and `params` alone.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tasks.core.params import Params

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True)
class Adapter:
    """One way of putting trainable modules into a model."""

    params: type[Params]
    attach: "Callable[[nn.Module, Any], nn.Module]"
    merge: "Callable[[nn.Module], nn.Module] | None"
    """The plain model that computes the same function, made of an attached one; None where there is none."""
    penalty: "Callable[[nn.Module, Any], Tensor] | None" = None
    """A scalar of the last forward that is added to the loss, in nats per token."""
    rates: "Callable[[nn.Module, Any], Mapping[str, float]] | None" = None
    """Parameters, by name, that learn at so many times the optimizer's learning rate; the others at it."""
    facts: "Callable[[nn.Module], Mapping[str, Any]] | None" = None
    """What a trained model shows of the method, as JSON knows it; kept in `training.json` as `adapter`."""
    difference: str = ""
    """In what a freshly attached model differs from the base, where it does."""
    alone: str = ""
    """Why several processes cannot share its training, where they cannot."""
    wraps: str = ""
    """The library class that does it."""
