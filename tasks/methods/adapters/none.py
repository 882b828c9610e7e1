"""No adapter: the model's own weights are what a selector chooses from."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tasks.core.params import Params
from tasks.methods.adapters import Adapter

if TYPE_CHECKING:
    from torch import nn


class NoneParams(Params):
    """The `methods.none` section: nothing to set."""


def attach(model: nn.Module, params: NoneParams) -> nn.Module:
    """The model as it is."""
    return model


def merge(model: nn.Module) -> nn.Module:
    """The model as it is."""
    return model


METHOD = Adapter(params=NoneParams, attach=attach, merge=merge)
