"""Functions of plain weights."""

from tasks.methods.bases import Base
from tasks.methods.bases.none.config import NoneConfig


def quantization(config: NoneConfig) -> None:
    """Return None: the weights stay as they are."""


METHOD = Base(quantization=quantization)
