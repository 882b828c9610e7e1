"""Settings of weights in 8 or 4 bits, and the facts about them that need no torch."""

from typing import Literal

from tasks.core.config import Config
from tasks.methods.compressors import CompressorSpec


class BitsandbytesConfig(Config):
    """The `methods.bitsandbytes` section."""

    bits: Literal[8, 4] = 8
    """Bits of a weight; with 8, a layer's inputs have 8 bits too. On a CPU both save bytes, and neither saves time."""


SPEC = CompressorSpec(
    config=BitsandbytesConfig,
    wraps="transformers.BitsAndBytesConfig",
    readers={"transformers": "with bitsandbytes"},
)
