"""Settings of CoFiTune, and the facts about it that need no torch."""

from typing import Literal, Self

from pydantic import Field, model_validator

from tasks.core.config import Config
from tasks.methods.selectors import SelectorSpec


class CofituneConfig(Config):
    """The `methods.cofitune` section."""

    band: tuple[float, float] = (0.25, 0.5)
    """The layers that train, between two fractions of the depth; the default is layers 8 to 15 of 32."""
    modules: tuple[str, ...] = Field(("up_proj", "down_proj"), min_length=1)
    """Last name segments of the layers that train in the band."""
    mask: Literal["rows", "official_tiled", "none"] = "rows"
    """`rows`: steps of important units are smaller. `official_tiled`: gradients are masked, in the layout of the authors' code. `none`: only
    the coarse choice."""
    accumulate: Literal["signed", "absolute"] = "signed"
    """The sum of a unit's gradients over batches: of signed gradients, as in the authors' code, or of their magnitudes."""
    dropout: float = Field(0.003, gt=0, lt=1)
    """Dropout of attention probabilities and of the MLP's output while importance is measured."""

    @model_validator(mode="after")
    def _band_has_a_length(self) -> Self:
        low, high = self.band
        if not 0 <= low < high <= 1:
            raise ValueError(f"band is {low:g} to {high:g}, and must rise between 0 and 1.")
        return self


SPEC = SelectorSpec(
    config=CofituneConfig,
    merges=True,
    needs_gradient=lambda config: config.mask == "official_tiled",
)
