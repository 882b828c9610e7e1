"""Settings of MeZO, and the facts about it that need no torch."""

from pydantic import Field

from tasks.core.config import Config
from tasks.methods.optimizers import OptimizerSpec


class MezoConfig(Config):
    """The `methods.mezo` section."""

    learning_rate: float = Field(1e-6, gt=0)
    """Peak of the schedule."""
    eps: float = Field(1e-3, gt=0)
    """The distance along z at which the loss is measured, both ways."""
    directions: int = Field(1, ge=1)
    """Directions averaged in a step; each costs two forward passes."""
    weight_decay: float = Field(0.0, ge=0)
    """Decay of matrices. Vectors (norms, biases) are never decayed; the authors' code decays norms without `layernorm` in their name,
    such as `model.norm.weight`."""


SPEC = OptimizerSpec(config=MezoConfig, gradient_free=True)
