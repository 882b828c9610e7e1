"""The settings that MeZO and ZO2 share, without torch."""

from pydantic import Field

from tasks.core.config import Config


class StepsConfig(Config):
    """The settings of MeZO's steps, whether the model is in memory as a whole or block by block."""

    learning_rate: float = Field(1e-6, gt=0)
    """Peak of the schedule."""
    eps: float = Field(1e-3, gt=0)
    """The distance along z, in both directions, at which the loss is measured."""
    directions: int = Field(1, ge=1)
    """Directions averaged in a step; each costs two forward passes."""
    weight_decay: float = Field(0.0, ge=0)
    """Decay of matrices. Vectors (norms, biases) are never decayed; the authors' code decays norms without `layernorm` in their name,
    such as `model.norm.weight`."""
