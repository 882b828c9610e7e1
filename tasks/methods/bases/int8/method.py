"""Functions of LLM. Equations and the legend of shapes are in the docstring of the package."""

import logging

from transformers import BitsAndBytesConfig

from tasks.methods.bases import Base, _bitsandbytes
from tasks.methods.bases.int8.config import Int8Config


def quantization(config: Int8Config) -> BitsAndBytesConfig:
    """What `from_pretrained` stores linear layers by. Raises ValueError without bitsandbytes."""
    _bitsandbytes.check_installed("int8")
    # At every product it warns that inputs are cast to 16 bits, which is what the method does.
    logging.getLogger("bitsandbytes.autograd._functions").setLevel(logging.ERROR)
    return BitsAndBytesConfig(load_in_8bit=True, llm_int8_threshold=config.threshold)


METHOD = Base(quantization=quantization)
