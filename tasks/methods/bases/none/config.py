"""Settings of Plain weights, and what is known of it without torch."""

from tasks.core.config import Params
from tasks.methods.bases import BaseSpec


class NoneConfig(Params):
    """The `methods.none` section: nothing to set."""


SPEC = BaseSpec(config=NoneConfig)
