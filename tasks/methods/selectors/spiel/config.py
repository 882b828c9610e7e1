"""Settings of SpIEL, and the facts about it that need no torch."""

from typing import Literal, Self

from pydantic import Field, model_validator

from tasks.core.config import Config
from tasks.methods.selectors import SelectorSpec


class SpielConfig(Config):
    """The `methods.spiel` section."""

    density: float = Field(0.01, gt=0, le=1)
    """Trained numbers as a share of all the model's weights, including the head and the embeddings. They are shared out to layers by size."""
    criterion: Literal["ag", "ma"] = "ag"
    """The criterion for grown entries. `ag`: accumulated gradients; `ma`: momentum estimated from rows and columns, which needs less memory."""
    period: int = Field(20, ge=0)
    """R: steps between changes of the entries; with 0 the initial entries are kept."""
    accumulate: int = Field(5, ge=1)
    """A: steps over which gradients are summed before a change; the first change comes after A steps. A training of A steps or fewer is
    refused."""
    rate: float = Field(0.2, ge=0, le=1)
    """p0: the largest share of a layer's entries that is dropped. With 0 there is only the first change, to the entries of the largest
    gradients."""
    policy: Literal["linear", "cosine"] = "linear"
    """The form of the decrease of the share to 0."""
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
