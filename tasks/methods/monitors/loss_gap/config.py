"""Settings of the loss gap, and the facts about it that need no torch."""

from pydantic import Field

from tasks.core.config import Config
from tasks.methods.monitors import MonitorSpec


class LossGapConfig(Config):
    """The `methods.loss_gap` section."""

    permutations: int = Field(999, ge=99)
    """Permutations; the p-value is at least 1 / (permutations + 1)."""
    resamples: int = Field(2000, ge=100)
    """Resamples of the bootstrap."""


SPEC = MonitorSpec(config=LossGapConfig, sees="losses", unit="nats per token")
