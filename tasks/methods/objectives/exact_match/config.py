"""Settings of exact match, and the facts about it that need no torch."""

from tasks.core.config import Params
from tasks.methods.objectives import ObjectiveSpec


class ExactMatchConfig(Params):
    """The `methods.exact_match` section: nothing to set."""


SPEC = ObjectiveSpec(config=ExactMatchConfig, hits=True)
