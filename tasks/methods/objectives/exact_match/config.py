"""Settings of Exact match, and what is known of it without torch."""

from tasks.core.config import Params
from tasks.methods.objectives import ObjectiveSpec


class ExactMatchConfig(Params):
    """The `methods.exact_match` section: nothing to set."""


SPEC = ObjectiveSpec(config=ExactMatchConfig, hits=True)
