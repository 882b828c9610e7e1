"""Settings of S²FT, and the facts about it that need no torch."""

from typing import Literal, NamedTuple, Self

from pydantic import Field, model_validator

from tasks.core.config import Config
from tasks.methods.selectors import SelectorSpec


class Cut(NamedTuple):
    """The way in which a weight is cut into units."""

    form: Literal["columns", "rows"]
    units: str = ""
    """The key of the model's config that holds the number of units; if empty, every column or row is a unit."""


CUTS = {
    "v_proj": Cut("rows", "num_key_value_heads"),
    "o_proj": Cut("columns", "num_attention_heads"),
    "up_proj": Cut("rows"),
    "down_proj": Cut("columns"),
}


class S2ftConfig(Config):
    """The `methods.s2ft` section. The ratios are the authors' for Llama-2-7B; about 1 % of a small model trains."""

    v: float = Field(0.0, ge=0, le=1)
    """Share of the key-value heads whose rows of v_proj train."""
    o: float = Field(0.052, ge=0, le=1)
    """Share of the query heads whose columns of o_proj train."""
    u: float = Field(0.0, ge=0, le=1)
    """Share of the channels whose rows of up_proj train."""
    d: float = Field(0.02, ge=0, le=1)
    """Share of the channels whose columns of down_proj train."""
    spread: Literal["even", "flat"] = "even"
    """`even`: equally many units in every layer, the authors' advice for other models than theirs. `flat`: units * layers * ratio units,
    rounded down, chosen from all layers of one size together, as in their runs."""
    score: Literal["random", "weight", "activation", "product", "gradient"] = "random"
    """The score by which units are chosen. `weight`: the norm of a unit's slice. `activation`: the mean magnitude of the inputs of its columns,
    or of the outputs of its rows. `product`: weight times activation. `gradient`: the norm of the loss's gradient at the slice."""
    subset: Literal["large", "small"] = "large"
    """The units that train: those of the largest scores, or of the smallest."""

    @model_validator(mode="after")
    def _subset_has_an_effect(self) -> Self:
        if self.score == "random" and self.subset == "small":
            raise ValueError("subset 'small' changes nothing about score 'random'. Set another score, or leave it out.")
        return self

    @property
    def ratios(self) -> dict[str, float]:
        """Return the share of units that train, by the last name segment of their layers."""
        shares = zip(CUTS, (self.v, self.o, self.u, self.d), strict=True)
        return {target: ratio for target, ratio in shares if ratio}


SPEC = SelectorSpec(config=S2ftConfig, merges=True)
