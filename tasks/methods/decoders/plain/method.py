"""Functions of plain decoding."""

from collections.abc import Sequence

from torch import Tensor

from tasks.methods.decoders import Decoder
from tasks.methods.decoders.plain.config import PlainConfig


def combine(main_BV: Tensor, helpers: Sequence[Tensor], config: PlainConfig) -> Tensor:
    """Return the model's logits unchanged."""
    return main_BV


METHOD = Decoder(combine=combine)
