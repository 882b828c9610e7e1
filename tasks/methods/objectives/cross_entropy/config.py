"""Settings of cross-entropy, and the facts about it that need no torch."""

from tasks.core.config import Config
from tasks.methods.objectives import ObjectiveSpec


class CrossEntropyConfig(Config):
    """The `methods.cross_entropy` section: nothing to set."""


SPEC = ObjectiveSpec(config=CrossEntropyConfig)
