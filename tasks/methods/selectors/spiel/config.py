"""Settings of SpIEL, and the facts about it that need no torch."""

from typing import Literal, Self

from pydantic import Field, model_validator

from tasks.core.config import Config
from tasks.methods.selectors import SelectorSpec


class SpielConfig(Config):
    """The `methods.spiel` section."""

    density: float = Field(0.01, gt=0, le=1)
    """Numbers that train, as a share of all the model's weights, the head's and embeddings' included. Layers get theirs by size."""
    criterion: Literal["ag", "ma"] = "ag"
    """What is grown by: accumulated gradients, or the momentum that rows and columns suggest, which needs less memory."""
    period: int = Field(20, ge=0)
    """R: steps between changes of the entries; 0 leaves those drawn first."""
    accumulate: int = Field(5, ge=1)
    """A: steps over which gradients are added up before a change; the first change comes after as many steps. A training of no more steps is refused."""
    rate: float = Field(0.2, ge=0, le=1)
    """p0: share of a layer's entries that is dropped at most. With 0 there is the first change alone: the entries of the largest gradients."""
    policy: Literal["linear", "cosine"] = "linear"
    """The way in which the share falls to 0."""
    targets: tuple[str, ...] | str = "all-linear"
    """Last name segments of the layers whose entries train, or `all-linear`: every linear layer but the head and gates of one row."""

    @model_validator(mode="after")
    def _phases_do_not_overlap(self) -> Self:
        if self.period and self.accumulate >= self.period:
            raise ValueError(f"accumulate is {self.accumulate}, and must be below period, {self.period}.")
        return self


SPEC = SelectorSpec(
    config=SpielConfig,
    acts_between_steps=True,
    merges=True,
    needs_gradient=lambda config: True,
    least_steps=lambda config: config.accumulate + 1 if config.period else 1,
    alone="the entries that train move by the gradients that one process sees",
)
