"""Functions of no sparsifier."""

from torch import nn

from tasks.methods.sparsifiers import Sparsifier
from tasks.methods.sparsifiers.none.config import NoneConfig


def sparsify(model: nn.Module, config: NoneConfig, seed: int) -> None:
    """Leave the model as it is."""


def restore(model: nn.Module) -> None:
    """Leave the model as it is."""


METHOD = Sparsifier(sparsify=sparsify, restore=restore)
