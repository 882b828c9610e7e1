"""Settings of No expander, and what is known of it without torch."""

from tasks.core.config import Params
from tasks.methods.expanders import ExpanderSpec


class NoneConfig(Params):
    """The `methods.none` section: nothing to set."""


SPEC = ExpanderSpec(config=NoneConfig)
