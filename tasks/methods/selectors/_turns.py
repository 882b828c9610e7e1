"""Layers that take turns in training, which several selectors draw."""

from collections.abc import Collection, Sequence
from itertools import chain

from torch import nn


def let_train(layers: Sequence[Sequence[nn.Parameter]], drawn: Collection[int]) -> None:
    """Let the parameters of the layers that are drawn train in the coming step, and those of the others rest. None has a gradient then."""
    active = {parameter for number in drawn for parameter in layers[number]}
    for parameter in chain(*layers):
        parameter.requires_grad_(parameter in active)
        parameter.grad = None
