"""Settings of Bi-AdaptFormer, and the facts about it that need no torch."""

from typing import Literal

from pydantic import Field

from tasks.core.config import Config
from tasks.methods.adapters import AdapterSpec


class BiadaptformerConfig(Config):
    """The `methods.biadaptformer` section."""

    rank: int = Field(32, ge=1)
    """Inner width."""
    bits: Literal[1, 2, 4, 32] = 1
    """Bits of each number of A and B: each matrix has 2^bits values. 32 does not quantise: the control."""
    scale: float = Field(1.0, gt=0)
    """The block's output is scaled by it."""
    dropout: float = Field(0.1, ge=0, lt=1)
    """Dropout between A and B."""


SPEC = AdapterSpec(
    config=BiadaptformerConfig,
    merges=False,
    difference="B starts as small noise, as in the paper: a matrix of zeros has no deviation, and its levels would stay zero.",
    no_lora="A ReLU stands between its two matrices, and the change of a LoRA is linear.",
)
