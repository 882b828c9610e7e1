"""Functions of no adapter."""

from torch import nn

from tasks.core.training import Start
from tasks.methods.adapters import Adapter
from tasks.methods.adapters.none.config import NoneConfig


def attach(model: nn.Module, config: NoneConfig, start: Start) -> nn.Module:
    """The model as it is."""
    return model


def merge(model: nn.Module) -> nn.Module:
    """The model as it is."""
    return model


METHOD = Adapter(attach=attach, merge=merge)
