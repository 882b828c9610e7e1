"""Activation checkpointing: a decoder layer keeps only its input, and its other activations are recomputed in the backward pass.

Chen et al. 2016, https://arxiv.org/abs/1604.06174. A wrapper over `torch.utils.checkpoint`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import TYPE_CHECKING

from tasks.core.weights import surgery
from tasks.core.weights.row import Passage, Row, listen, listens

if TYPE_CHECKING:
    from torch import nn

_recomputed_layers: list[None] = []
"""One entry for each layer that is being recomputed. It is not thread-local, because backward passes of GPUs run in their own threads."""


def applied(model: nn.Module, *, wanted: bool) -> AbstractContextManager[None]:
    """Return `checkpointed(model)` if it is wanted, else a context that does nothing."""
    return checkpointed(model) if wanted else nullcontext()


@contextmanager
def checkpointed(model: nn.Module) -> Iterator[None]:
    """Let every decoder layer of `model` keep only its input, until the end of the context.

    Losses and gradients stay the same to the bit, because the recomputation draws the same random numbers in the same precision.
    """
    from torch.utils.checkpoint import checkpoint

    layers = list(surgery.decoder_layers(model))
    for layer in layers:
        layer.forward = partial(checkpoint, layer.forward, use_reentrant=False, context_fn=partial(_contexts, model))
    try:
        yield
    finally:
        for layer in layers:
            del layer.forward


def is_recomputing() -> bool:
    """Return True during the recomputation of a layer, in which a method must not record the pass a second time."""
    return bool(_recomputed_layers)


def _contexts(model: nn.Module) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    """Return the contexts of a layer's first computation and of its recomputation, which reads the same row."""
    passage = listen(model) if listens(model) else None
    return nullcontext(), _Recomputing(passage, passage.row if passage else None)


class _Recomputing(AbstractContextManager[None]):
    """Restore the row of a layer's first computation during its recomputation, because the hook that records the row does not run again.

    It can be entered again, by a further backward pass through a retained graph.
    """

    def __init__(self, passage: Passage | None, row: Row | None) -> None:
        self._passage, self._row, self._latest = passage, row, row

    def __enter__(self) -> None:
        _recomputed_layers.append(None)
        if self._passage:
            self._latest, self._passage.row = self._passage.row, self._row

    def __exit__(self, *_: object) -> None:
        if self._passage:
            self._passage.row = self._latest
        _recomputed_layers.pop()
