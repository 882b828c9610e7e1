"""Plain weights, as the model's folder holds them."""

from __future__ import annotations

from tasks.core.params import Params
from tasks.methods.bases import Base


class NoneParams(Params):
    """The `methods.none` section: nothing to set."""


def quantization(params: NoneParams) -> None:
    """Nothing: the weights stay as they are."""


METHOD = Base(params=NoneParams, quantization=quantization)
