"""Settings of SoKA, and the facts about it that need no torch."""

from collections.abc import Mapping
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from tasks.core.config import Config
from tasks.methods.adapters import AdapterSpec

Side = Annotated[int, Field(ge=1)]


class SokaConfig(Config):
    """The `methods.soka` section."""

    min_terms: int = Field(1, ge=1)
    """Least number of Kronecker products of a layer."""
    max_terms: int = Field(16, ge=1)
    """Largest number of Kronecker products of a layer."""
    energy: float = Field(0.9, gt=0, le=1)
    """The share of a weight's energy at which no further products are added. Trained weights do not reach it within `max_terms`."""
    budget: int | None = Field(None, ge=1)
    """Numbers to train in all layers together. Null: the spectrum of each layer determines its number of products."""
    shapes: Mapping[str, tuple[Side, Side]] = {}
    """Rows and columns of A by a layer's last name segment, in place of the divisors nearest to the square roots."""
    init: Literal["svd", "random"] = "svd"
    """`svd`: the weight's own leading products. `random`, the control: equally many, with random A and B = 0."""
    targets: tuple[str, ...] | str = ("q_proj", "v_proj")
    """Last name segments of the layers to adapt, or `all-linear`: every linear layer but the head and gates of one row."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.min_terms > self.max_terms:
            raise ValueError(f"min_terms {self.min_terms} is above max_terms {self.max_terms}.")
        return self


SPEC = AdapterSpec(
    config=SokaConfig,
    merges=True,
    undecayed=("A_RMN", "B_RPQ"),
    held=("A0_RMN", "B0_RPQ"),
    no_lora="A Kronecker product has full rank, and a LoRA of full rank is larger than the weight.",
)
