"""Bases: how the frozen weights are stored while something beside them trains.

A base's file holds `METHOD = Base(params=…, quantization=…)`. `quantization(params)` is what `from_pretrained` is given, or
None for plain weights. Parts that train the base's own weights refuse a quantised one.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tasks.core.params import Params


@dataclass(frozen=True)
class Base:
    """One way of storing frozen weights."""

    params: type[Params]
    quantization: Callable[[Any], Any]
    alone: str = ""
    """Why several processes cannot share its training, where they cannot."""
    wraps: str = ""
    """The library class that does it."""
