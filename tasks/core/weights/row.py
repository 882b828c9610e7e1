"""The row that a model is reading, for modules inside its layers: the task of each sequence, its position, and the number of the look.

In training, scoring and generation, the engine passes a `Row` to every forward pass of a model that listens, as a keyword beside the hidden
states. Hooks before each decoder layer and before its attention record it; the layer passes its keywords on to attention. So a layer that is
recomputed in the backward pass calls its attention again and finds the row of its own pass.
Shapes: S = sequences of the row, B = rows of a batch, T = tokens of a row.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from tasks.core.weights.surgery import decoder_layers, plain

if TYPE_CHECKING:
    from torch import Tensor, nn

ATTENTION = ("self_attn", "attn")
"""Names of a decoder layer's attention: in LLaMA and Qwen, and in GPT-2."""


def task_key(name: str) -> int:
    """Return the number of a task for models. It depends only on the task's name, so it is the same in every run."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") >> 1


@dataclass(frozen=True)
class Row:
    """One pass over a row of sequences, or over a batch of rows of one sequence each."""

    tasks: Tensor
    """`task_key` of each sequence's task, (S,)."""
    boundaries: Tensor | None = None
    """The boundaries of the sequences in a packed row, from 0, (S + 1,); None if each row of the batch is one sequence."""
    look: int = 0
    """Number of the look at this row, if an objective reads it more than once."""
    training: bool = False
    """True if the pass belongs to a training step."""

    def of_each_token(self, values: Tensor, length: int) -> Tensor:
        """Return the values of sequences, (S, …), for their tokens in rows of this length, (B, T, …)."""
        if self.boundaries is None:
            return values[:, None].expand(-1, length, *values.shape[1:])
        return values.repeat_interleave(self.boundaries.diff(), dim=0, output_size=length)[None]


class Passage:
    """The row that is now in a model's layers; None if the pass has none."""

    def __init__(self) -> None:
        self.row: Row | None = None
        self._hooks: list[Any] = []

    def __deepcopy__(self, memo: dict[int, Any]) -> Passage:
        """Return the passage of a copied model. The copied hooks record their rows in it."""
        memo[id(self)] = copied = Passage()
        return copied

    def follow(self, layers: Iterable[nn.Module]) -> None:
        """Record the row of every pass through these decoder layers from now on."""
        for layer in layers:
            self._hooks.append(layer.register_forward_pre_hook(partial(_note, self), with_kwargs=True))
            for module in (child for name, child in layer.named_children() if name in ATTENTION):
                self._hooks.append(module.register_forward_pre_hook(partial(_take, self), with_kwargs=True))

    def leave(self) -> None:
        """Stop recording rows."""
        for hook in self._hooks:
            hook.remove()


def listen(model: nn.Module) -> Passage:
    """Return the passage of a model, which records its rows from now on."""
    inner: Any = plain(model)
    if not listens(inner):
        inner.passage = Passage()
        inner.passage.follow(decoder_layers(inner))
    passage: Passage = inner.passage
    return passage


def listens(model: nn.Module) -> bool:
    """Return True if a module of the model listens for rows."""
    return hasattr(plain(model), "passage")


def unlisten(model: nn.Module) -> None:
    """Undo `listen`."""
    inner: Any = plain(model)
    if listens(inner):
        inner.passage.leave()
        del inner.passage


def _note(passage: Passage, layer: nn.Module, args: Any, kwargs: dict[str, Any]) -> None:
    """Record the row of a decoder layer, or that there is none. This is a hook before the layer."""
    passage.row = kwargs.get("row")


def _take(passage: Passage, module: nn.Module, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """Record the row, and remove it from the keywords of attention. This is a hook before the attention of a decoder layer."""
    if "row" in kwargs:
        passage.row = kwargs.pop("row")
    return args, kwargs
