"""NF4: frozen weights in 4 bits, at levels that split a normal distribution evenly; with adapter `lora` it is QLoRA.

Dettmers et al. 2023, https://arxiv.org/abs/2305.14314, eq. 5 and 6:

    y = x doubleDequant(c₁, c₂, W) + x A B,   doubleDequant(c₁, c₂, W) = dequant(dequant(c₁, c₂), W)

W holds numbers of 16 levels, the quantiles of N(0, 1) scaled to [−1, 1]; every 64 of them share a scale, and the scales c₂ are
themselves stored in 8 bits, 256 to a scale c₁. Embeddings, norms and the head stay as they are.
A wrapper over transformers' `BitsAndBytesConfig`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from tasks.core.params import Params
from tasks.methods.bases import Base, _bitsandbytes

if TYPE_CHECKING:
    from transformers import BitsAndBytesConfig


class Nf4Params(Params):
    """The `methods.nf4` section."""

    double_quant: bool = True
    """Whether the scales are quantised too: 4.13 bits a weight rather than 4.5."""
    compute_dtype: Literal["bfloat16", "float32"] = "bfloat16"
    """What the weights are turned back into for a product. `float32` is faster on a CPU without bf16 units."""


def quantization(params: Nf4Params) -> BitsAndBytesConfig:
    """What `from_pretrained` stores linear layers by. Raises ValueError without bitsandbytes."""
    _bitsandbytes.check_installed("nf4")
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=params.double_quant,
        bnb_4bit_compute_dtype=params.compute_dtype,
    )


METHOD = Base(params=Nf4Params, quantization=quantization, wraps="transformers.BitsAndBytesConfig")
