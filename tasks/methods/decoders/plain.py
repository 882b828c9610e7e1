"""Plain decoding: the model's own logits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tasks.core.params import Params
from tasks.methods.decoders import Decoder

if TYPE_CHECKING:
    from torch import Tensor


class PlainParams(Params):
    """The `methods.plain` section: nothing to set."""


def combine(main_BV: Tensor, helpers: Sequence[Tensor], params: PlainParams) -> Tensor:
    """The model's logits as they are."""
    return main_BV


METHOD = Decoder(params=PlainParams, combine=combine)
