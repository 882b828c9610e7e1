"""Settings of IST, and the facts about it that need no torch."""

from pydantic import Field

from tasks.core.config import Config
from tasks.methods.selectors import SelectorSpec


class IstConfig(Config):
    """The `methods.ist` section."""

    trained: float = Field(0.25, gt=0, le=1)
    """Share of the layers that train in a step; at least one layer."""
    suppressed: float = Field(0.5, gt=0, lt=1)
    """Share of the layers that are suppressed at a time; at least one layer."""
    factor: float = Field(0.25, ge=0, le=1)
    """beta: the factor on the update of a suppressed layer. With 1 layers are drawn uniformly."""
    sets: int = Field(3, ge=2)
    """R: number of sets of layers that are suppressed one after the other."""
    period: int = Field(10, ge=1)
    """Steps between two updates of the scores."""
    rate: float = Field(10.0, gt=0)
    """eta: the step size of the scores."""


SPEC = SelectorSpec(
    config=IstConfig, acts_between_steps=True, needs_linear=True, alone="what trains changes from step to step"
)
