"""Settings of no router, and the facts about it."""

from tasks.core.config import Config
from tasks.methods.routers import RouterSpec


class NoneConfig(Config):
    """Nothing to set."""


SPEC = RouterSpec(config=NoneConfig)
