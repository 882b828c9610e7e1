"""Bases: how the frozen weights are stored while something beside them trains.

A base's folder holds `SPEC = BaseSpec(config=…)` and `METHOD = Base(quantization=…)`. `quantization(config)` is what
`from_pretrained` is given, or None for plain weights. Parts that train the base's own weights refuse a quantised one.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tasks.methods import TrainingSpec


@dataclass(frozen=True, kw_only=True)
class BaseSpec(TrainingSpec):
    """The facts about a base."""


@dataclass(frozen=True, kw_only=True)
class Base:
    """One way of storing frozen weights."""

    quantization: Callable[[Any], Any]
