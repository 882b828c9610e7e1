"""Settings of Everything that the adapter left trainable, and what is known of it without torch."""

from tasks.core.config import Params
from tasks.methods.selectors import SelectorSpec


class AllConfig(Params):
    """The `methods.all` section: nothing to set."""


SPEC = SelectorSpec(config=AllConfig)
