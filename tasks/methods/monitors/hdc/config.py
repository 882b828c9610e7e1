"""Settings of HDC, and the facts about it that need no torch."""

from pydantic import Field

from tasks.core.config import Config
from tasks.methods.monitors import MonitorSpec


class HdcConfig(Config):
    """The `methods.hdc` section."""

    permutations: int = Field(999, ge=99)
    """Permutations; the p-value is at least 1 / (permutations + 1)."""
    size: int = Field(10_000, ge=2)
    """Length of a hypervector, at least that of a hidden state."""
    rare: float = Field(0.05, gt=0, lt=1)
    """An item is called new if it lies as far away as at most this share of held-out items."""


SPEC = MonitorSpec(config=HdcConfig, sees="states", unit="cosine", names_new=True)
