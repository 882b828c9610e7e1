"""Settings of HDC, and the facts about it that need no torch."""

from pydantic import Field

from tasks.core.config import Config
from tasks.methods.monitors import MonitorSpec


class HdcConfig(Config):
    """The `methods.hdc` section."""

    permutations: int = Field(999, ge=99)
    """Permutations; the p-value is at least 1 / (permutations + 1)."""
    size: int = Field(10_000, ge=2)
    """Numbers of a hypervector, no fewer than a hidden state has."""
    rare: float = Field(0.05, gt=0, lt=1)
    """The share of held-out items that lie as far off as an item must to be called new."""


SPEC = MonitorSpec(config=HdcConfig, sees="states", unit="cosine", names_new=True)
