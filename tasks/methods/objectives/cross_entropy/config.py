"""Settings of Cross-entropy, and what is known of it without torch."""

from tasks.core.config import Params
from tasks.methods.objectives import ObjectiveSpec


class CrossEntropyConfig(Params):
    """The `methods.cross_entropy` section: nothing to set."""


SPEC = ObjectiveSpec(config=CrossEntropyConfig)
