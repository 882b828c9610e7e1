"""Bases: the storage of the frozen weights while other modules train.

A base's folder holds `SPEC = BaseSpec(config=…)` and `METHOD = Base(quantization=…)`. `quantization(config)` returns the quantisation config
for `from_pretrained`, or None for plain weights. Parts that train the base's own weights refuse a quantised base.
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
