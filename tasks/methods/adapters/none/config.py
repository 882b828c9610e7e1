"""Settings of No adapter, and what is known of it without torch."""

from tasks.core.config import Params
from tasks.methods.adapters import AdapterSpec


class NoneConfig(Params):
    """The `methods.none` section: nothing to set."""


SPEC = AdapterSpec(config=NoneConfig, merges=True)
