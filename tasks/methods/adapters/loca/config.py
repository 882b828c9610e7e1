"""Settings of LoCA, and the facts about it that need no torch."""

from typing import Literal

from pydantic import Field

from tasks.core.config import Config
from tasks.methods.adapters import AdapterSpec


class LocaConfig(Config):
    """The `methods.loca` section."""

    n: int = Field(1000, ge=1)
    """Coefficients of each layer."""
    alpha: float = Field(1.0, gt=0)
    """The update is scaled by it."""
    dropout: float = Field(0.0, ge=0, lt=1)
    """Dropout of the update's input."""
    targets: tuple[str, ...] | str = "all-linear"
    """Last name segments of the layers to adapt, or `all-linear`: every linear layer but the head and gates of one row."""
    places: Literal["learned", "frozen"] = "learned"
    """`learned`: the places of the coefficients train in turn with them. `frozen`, the control: they stay where they were drawn."""
    place_rate: float = Field(0.02, gt=0)
    """Learning rate of places, as a multiple of the optimizer's. The paper has 1e-4 for places and 5e-3 for coefficients."""
    place_share: float = Field(0.1, gt=0, le=1)
    """Share of the steps, from the first on, in which places take turns with coefficients; at least one period of both turns."""
    coefficient_steps: int = Field(10, ge=1)
    """Steps of a turn in which coefficients learn."""
    place_steps: int = Field(20, ge=1)
    """Steps of a turn in which places learn."""


SPEC = AdapterSpec(
    config=LocaConfig,
    merges=True,
    linear=("a_K",),
    held=("row_K", "column_K"),
    acts_between_steps=True,
    takes_turns=True,
    alone="what trains changes from step to step",
)
