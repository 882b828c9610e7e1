"""Settings of plain decoding, and the facts about it that need no torch."""

from tasks.core.config import Config
from tasks.methods.decoders import DecoderSpec


class PlainConfig(Config):
    """The `methods.plain` section: nothing to set."""


SPEC = DecoderSpec(config=PlainConfig)
