"""Functions of NF4. Equations and the legend of symbols are in the card, `__init__.py`."""

import transformers

from tasks.methods.bases import Base, _bitsandbytes
from tasks.methods.bases.nf4.config import Nf4Config


def quantization(config: Nf4Config) -> transformers.BitsAndBytesConfig:
    """Return the config with which `from_pretrained` quantises linear layers. Raises ValueError without bitsandbytes."""
    _bitsandbytes.check_installed("nf4")
    return transformers.BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=config.double_quant,
        bnb_4bit_compute_dtype=config.compute_dtype,
    )


METHOD = Base(quantization=quantization)
