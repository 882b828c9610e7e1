"""Settings of LISA, and the facts about it that need no torch."""

from typing import Literal

from pydantic import Field

from tasks.core.config import Config
from tasks.methods.selectors import SelectorSpec


class LisaConfig(Config):
    """The `methods.lisa` section."""

    layers: int = Field(2, ge=0)
    """γ: decoder layers that train at a time."""
    period: int = Field(20, ge=1)
    """K: optimizer steps between draws."""
    state: Literal["drop", "keep"] = "drop"
    """The optimizer's state of a layer that is not drawn again. `drop`: it is freed, and starts from zero when the layer is drawn
    again. `keep`: it is kept, as in LMFlow, and memory grows towards that of full fine-tuning. The authors' runs for the paper reset
    the state of all parameters at each draw, which neither value does."""


SPEC = SelectorSpec(config=LisaConfig, acts_between_steps=True, alone="what trains changes from step to step")
