"""No expander: the model keeps its depth."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tasks.core.params import Params
from tasks.core.training import Probe
from tasks.methods.expanders import Expander

if TYPE_CHECKING:
    from torch import nn


class NoneParams(Params):
    """The `methods.none` section: nothing to set."""


def expand(model: nn.Module, params: NoneParams, probe: Probe, seed: int) -> dict[str, object]:
    """Leave the model as it is."""
    return {}


METHOD = Expander(params=NoneParams, expand=expand)
