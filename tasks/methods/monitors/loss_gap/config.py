"""Settings of The loss gap, and what is known of it without torch."""

from pydantic import Field

from tasks.core.config import Params
from tasks.methods.monitors import MonitorSpec


class LossGapConfig(Params):
    """The `methods.loss_gap` section."""

    permutations: int = Field(999, ge=99)
    """Relabellings; the chance is never below 1 / (permutations + 1)."""
    resamples: int = Field(2000, ge=100)
    """Of the bootstrap."""


SPEC = MonitorSpec(config=LossGapConfig, sees="losses", unit="nats per token")
