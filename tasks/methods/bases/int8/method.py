"""Functions of LLM.int8(). Equations and the legend of symbols are in the card, `__init__.py`."""

import logging

import transformers

from tasks.methods.bases import Base, _bitsandbytes
from tasks.methods.bases.int8.config import Int8Config


def quantization(config: Int8Config) -> transformers.BitsAndBytesConfig:
    """Return the config with which `from_pretrained` quantises linear layers. Raises ValueError without bitsandbytes."""
    _bitsandbytes.check_installed("int8")
    # It warns at every product that inputs are cast to 16 bits, which this method intends.
    logging.getLogger("bitsandbytes.autograd._functions").setLevel(logging.ERROR)
    return transformers.BitsAndBytesConfig(load_in_8bit=True, llm_int8_threshold=config.threshold)


METHOD = Base(quantization=quantization)
