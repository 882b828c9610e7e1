"""Settings of ZO2, and the facts about it that need no torch."""

from pydantic import Field

from tasks.core.config import Config
from tasks.methods.optimizers import OptimizerSpec


class Zo2Config(Config):
    """The `methods.zo2` section: MeZO's settings, and the memory that blocks may take."""

    learning_rate: float = Field(1e-6, gt=0)
    """Peak of the schedule."""
    eps: float = Field(1e-3, gt=0)
    """The distance along z at which the loss is measured, both ways."""
    directions: int = Field(1, ge=1)
    """Directions averaged in a step; for each the blocks come once more."""
    weight_decay: float = Field(0.0, ge=0)
    """Decay of matrices. Vectors (norms, biases) are never decayed."""
    resident_mb: float | None = Field(None, gt=0)
    """MB (10^6 bytes) that blocks may take in memory at a time. Without a number as many as three take. With fewer blocks wait for each
    other; what is beyond three holds the first ones for good. No byte of the result depends on it."""


SPEC = OptimizerSpec(
    config=Zo2Config,
    gradient_free=True,
    streams=True,
    alone="two passes are under way at a time, and DDP follows one",
)
