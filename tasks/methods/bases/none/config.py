"""Settings of plain weights, and the facts about it that need no torch."""

from tasks.core.config import Config
from tasks.methods.bases import BaseSpec


class NoneConfig(Config):
    """The `methods.none` section: nothing to set."""


SPEC = BaseSpec(config=NoneConfig)
