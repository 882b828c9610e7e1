"""Settings of Plain decoding, and what is known of it without torch."""

from tasks.core.config import Params
from tasks.methods.decoders import DecoderSpec


class PlainConfig(Params):
    """The `methods.plain` section: nothing to set."""


SPEC = DecoderSpec(config=PlainConfig)
