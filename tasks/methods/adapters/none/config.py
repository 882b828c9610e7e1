"""Settings of no adapter, and the facts about it that need no torch."""

from tasks.core.config import Config
from tasks.methods.adapters import AdapterSpec


class NoneConfig(Config):
    """The `methods.none` section: nothing to set."""


SPEC = AdapterSpec(config=NoneConfig, merges=True)
