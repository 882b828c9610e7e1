"""Decoders: the next token's logits, made of those of a main model and of helpers beside it.

A decoder's folder holds `SPEC = DecoderSpec(config=…, helpers=…)` and `METHOD = Decoder(combine=…)`. `combine(main, helpers,
config)` returns logits of the main model's shape and changes none of its arguments; a constant added to a row of any of them
moves no probability. The engine runs the models in step, lays processors, temperature and top-p on what is returned, and scores
given texts by it.

A decoder with helpers steers: stage `evaluate` has the model that it measures steer another one, whose folder the setting
`steers` names and whose contents the setting `digest` pins.
Shapes: B = rows, V = tokens that all models share.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tasks.methods import Spec

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class DecoderSpec(Spec):
    """The facts about a decoder."""

    helpers: tuple[str, ...] = ()
    """The role of each helper: `expert`, a tuned model, or `antiexpert`, the model it was tuned from."""


@dataclass(frozen=True, kw_only=True)
class Decoder:
    """One way of making next-token logits."""

    combine: "Callable[[Tensor, Sequence[Tensor], Any], Tensor]"
    """Logits (B, V) from the main model's (B, V) and each helper's (B, V), in the order of `helpers`."""
