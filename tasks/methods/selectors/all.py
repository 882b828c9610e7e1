"""Everything that the adapter left trainable: full fine-tuning without an adapter, the whole adapter with one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tasks.core.params import Params
from tasks.core.training import Probe
from tasks.methods.selectors import Selector

if TYPE_CHECKING:
    from torch import nn


class AllParams(Params):
    """The `methods.all` section: nothing to set."""


def choose(model: nn.Module, params: AllParams, probe: Probe, seed: int) -> None:
    """Leave every parameter as the adapter set it."""


METHOD = Selector(params=AllParams, choose=choose)
