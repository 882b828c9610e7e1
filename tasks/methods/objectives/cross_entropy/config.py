"""Settings of cross-entropy, and the facts about it that need no torch."""

from tasks.core.config import Params
from tasks.methods.objectives import ObjectiveSpec


class CrossEntropyConfig(Params):
    """The `methods.cross_entropy` section: nothing to set."""


SPEC = ObjectiveSpec(config=CrossEntropyConfig)
