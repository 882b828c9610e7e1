"""Settings of Middo, and the facts about it that need no torch."""

from typing import Literal

from pydantic import Field

from tasks.core.config import Config
from tasks.methods.curators import CuratorSpec


class MiddoConfig(Config):
    """The `methods.middo` section."""

    complexity: float = Field(1.0, ge=0, allow_inf_nan=True)
    """m for the losses. `.inf` leaves the set empty, here and below."""
    quality: float = Field(1.0, ge=0, allow_inf_nan=True)
    """m for the quality. The paper gives no value: choose it by the number of examples that it selects."""
    diversity: float = Field(1.0, ge=0, allow_inf_nan=True)
    """m for the neighbourhoods. Choose it like that of the quality."""
    neighbours: int = Field(2, ge=1)
    """k: the nearest prompts whose cosines are averaged."""
    cap: float = Field(0.1, ge=0, le=1)
    """Largest share of the diagnosed examples that a set may hold, rounded down; the worst are kept. The paper has no cap: 1."""
    control: Literal["none", "random", "loss"] = "none"
    """The control: equally many examples as the sets hold, drawn at random, or those of the highest loss after the training."""
    seed: int = 0
    """Seed of the control."""


SPEC = CuratorSpec(config=MiddoConfig)
