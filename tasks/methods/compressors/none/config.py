"""Settings of no compression, and the facts about it that need no torch."""

from tasks.core.config import Config
from tasks.methods.compressors import CompressorSpec


class NoneConfig(Config):
    """The `methods.none` section: nothing to set."""


SPEC = CompressorSpec(config=NoneConfig)
