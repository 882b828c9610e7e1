"""Settings of No compression, and what is known of it without torch."""

from tasks.core.config import Params
from tasks.methods.compressors import CompressorSpec


class NoneConfig(Params):
    """The `methods.none` section: nothing to set."""


SPEC = CompressorSpec(config=NoneConfig)
