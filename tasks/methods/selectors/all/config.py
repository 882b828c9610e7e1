"""Settings of the choice of everything, and the facts about it that need no torch."""

from tasks.core.config import Config
from tasks.methods.selectors import SelectorSpec


class AllConfig(Config):
    """The `methods.all` section: nothing to set."""


SPEC = SelectorSpec(config=AllConfig)
