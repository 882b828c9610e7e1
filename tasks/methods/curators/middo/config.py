"""Settings of Middo, and the facts about it that need no torch."""

from typing import Literal

from pydantic import Field

from tasks.core.config import Config
from tasks.methods.curators import CuratorSpec


class MiddoConfig(Config):
    """The `methods.middo` section."""

    complexity: float = Field(1.0, ge=0, allow_inf_nan=True)
    """m of the losses. `.inf` leaves the set empty, here and below."""
    quality: float = Field(1.0, ge=0, allow_inf_nan=True)
    """m of the quality. The paper names none: a person chooses it by how many it selects."""
    diversity: float = Field(1.0, ge=0, allow_inf_nan=True)
    """m of the neighbourhoods; as for the quality."""
    neighbours: int = Field(2, ge=1)
    """k: the nearest prompts whose cosines are averaged."""
    cap: float = Field(0.1, ge=0, le=1)
    """Largest share of the diagnosed examples that a set may hold, rounded down; it keeps the worst. The paper has no cap: 1."""
    control: Literal["none", "random", "loss"] = "none"
    """The control: as many examples as the sets hold, but drawn at random, or those of the highest loss after the training."""
    seed: int = 0
    """Seed of the control."""


SPEC = CuratorSpec(config=MiddoConfig)
