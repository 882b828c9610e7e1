"""Settings of levels, and the facts about it that need no torch."""

from typing import Literal

from tasks.core.config import Config
from tasks.methods.compressors import CompressorSpec


class LevelsConfig(Config):
    """The `methods.levels` section."""

    bits: Literal[1, 2, 4] = 1
    """Bits of a number. A tensor with more than 2^bits values is rounded."""


SPEC = CompressorSpec(config=LevelsConfig)
