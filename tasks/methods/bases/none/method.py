"""Functions of Plain weights. Equations and the legend of shapes are in the docstring of the package."""

from tasks.methods.bases import Base
from tasks.methods.bases.none.config import NoneConfig


def quantization(config: NoneConfig) -> None:
    """Nothing: the weights stay as they are."""


METHOD = Base(quantization=quantization)
