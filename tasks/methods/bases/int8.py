"""LLM.int8(): frozen weights in 8 bits, multiplied as integers but for the few outlying features.

Dettmers et al. 2022, https://arxiv.org/abs/2208.07339, eq. 8:

    C ≈ Σ_{h in outliers} X_h W_h  +  S · Σ_{h elsewhere} X8_h W8_h

Rows of X and outputs of W are scaled by their largest number to ±127, S undoes both, and features that reach `threshold` are
multiplied in 16 bits. Embeddings, norms and the head stay as they are.
A wrapper over transformers' `BitsAndBytesConfig`.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from pydantic import Field

from tasks.core.params import Params
from tasks.methods.bases import Base, _bitsandbytes

if TYPE_CHECKING:
    from transformers import BitsAndBytesConfig


class Int8Params(Params):
    """The `methods.int8` section."""

    threshold: float = Field(6.0, ge=0)
    """A feature with a number this large is an outlier and multiplied in 16 bits; 0 multiplies all as integers."""


def quantization(params: Int8Params) -> BitsAndBytesConfig:
    """What `from_pretrained` stores linear layers by. Raises ValueError without bitsandbytes."""
    _bitsandbytes.check_installed("int8")
    from transformers import BitsAndBytesConfig

    # At every product it warns that inputs are cast to 16 bits, which is what the method does.
    logging.getLogger("bitsandbytes.autograd._functions").setLevel(logging.ERROR)
    return BitsAndBytesConfig(load_in_8bit=True, llm_int8_threshold=params.threshold)


METHOD = Base(params=Int8Params, quantization=quantization, wraps="transformers.BitsAndBytesConfig")
