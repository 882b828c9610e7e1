"""Settings of no expander, and the facts about it that need no torch."""

from tasks.core.config import Config
from tasks.methods.expanders import ExpanderSpec


class NoneConfig(Config):
    """The `methods.none` section: nothing to set."""


SPEC = ExpanderSpec(config=NoneConfig)
