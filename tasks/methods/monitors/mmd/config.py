"""Settings of MMD, and the facts about it that need no torch."""

from pydantic import Field

from tasks.core.config import Config
from tasks.methods.monitors import MonitorSpec


class MmdConfig(Config):
    """The `methods.mmd` section."""

    permutations: int = Field(999, ge=99)
    """Permutations; the p-value is at least 1 / (permutations + 1)."""


SPEC = MonitorSpec(config=MmdConfig, sees="embeddings", unit="MMD²")
