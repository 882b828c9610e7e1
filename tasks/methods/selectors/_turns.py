"""Layers that take turns in training, which several selectors draw."""

from collections.abc import Collection, Sequence
from itertools import chain

from torch import nn


def let_train(layers: Sequence[Sequence[nn.Parameter]], drawn: Collection[int]) -> None:
    """Let only the parameters of the drawn layers train in the coming step. All gradients are cleared."""
    active = {parameter for number in drawn for parameter in layers[number]}
    for parameter in chain(*layers):
        parameter.requires_grad_(parameter in active)
        parameter.grad = None
