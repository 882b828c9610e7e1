"""Settings of NF4, and the facts about it that need no torch."""

from typing import Literal

from tasks.core.config import Config
from tasks.methods.bases import BaseSpec


class Nf4Config(Config):
    """The `methods.nf4` section."""

    double_quant: bool = True
    """Quantise the scales too: 4.13 bits per weight instead of 4.5."""
    compute_dtype: Literal["bfloat16", "float32"] = "bfloat16"
    """The dtype to which weights are dequantised for a product. `float32` is faster on a CPU without bf16 units."""


SPEC = BaseSpec(config=Nf4Config, wraps="transformers.BitsAndBytesConfig")
