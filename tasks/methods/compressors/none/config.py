"""Settings of no compression, and the facts about it that need no torch."""

from tasks.core.config import Params
from tasks.methods.compressors import CompressorSpec


class NoneConfig(Params):
    """The `methods.none` section: nothing to set."""


SPEC = CompressorSpec(config=NoneConfig)
