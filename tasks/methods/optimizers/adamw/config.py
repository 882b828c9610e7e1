"""Settings of AdamW, and the facts about it that need no torch."""

from typing import Annotated

from pydantic import Field

from tasks.core.config import Config
from tasks.methods.optimizers import OptimizerSpec

Beta = Annotated[float, Field(ge=0, lt=1)]


class AdamwConfig(Config):
    """The `methods.adamw` section."""

    learning_rate: float = Field(5e-4, gt=0)
    """Peak of the schedule."""
    betas: tuple[Beta, Beta] = (0.9, 0.999)
    """Decay of the running mean and of the running square."""
    eps: float = Field(1e-8, gt=0)
    """Added to the root of the running square."""
    weight_decay: float = Field(0.0, ge=0)
    """Decay of matrices. Vectors (norms, biases) are never decayed."""


SPEC = OptimizerSpec(config=AdamwConfig, wraps="torch.optim.AdamW")
