"""Settings of exact match, and the facts about it that need no torch."""

from tasks.core.config import Config
from tasks.methods.objectives import WHOLE_ANSWERS, ObjectiveSpec


class ExactMatchConfig(Config):
    """The `methods.exact_match` section: nothing to set."""


SPEC = ObjectiveSpec(config=ExactMatchConfig, hits=True, weighs=WHOLE_ANSWERS)
