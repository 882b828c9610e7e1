"""Settings of no sparsifier, and the facts about it that need no torch."""

from tasks.core.config import Config
from tasks.methods.sparsifiers import SparsifierSpec


class NoneConfig(Config):
    """The `methods.none` section: nothing to set."""


SPEC = SparsifierSpec(config=NoneConfig)
