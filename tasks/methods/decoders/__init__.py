"""Decoders: the next token's logits, computed from those of a main model and of helper models.

A decoder's folder holds `SPEC = DecoderSpec(config=…, helpers=…)` and `METHOD = Decoder(combine=…)`. `combine(main, helpers,
config)` returns logits of the main model's shape and changes none of its arguments. A constant added to a row of any argument
must not change a probability. The engine runs the models in step, applies processors, temperature and top-p to the returned logits, and
scores given texts by them.

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
    """Returns logits, (B, V), from the main model's (B, V) and each helper's (B, V), in the order of `helpers`."""
