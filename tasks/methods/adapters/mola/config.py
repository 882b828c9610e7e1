"""Settings of MoLA, and the facts about it that need no torch."""

from typing import Self

from pydantic import Field, model_validator

from tasks.core.config import Config
from tasks.methods.adapters import AdapterSpec


class MolaConfig(Config):
    """The `methods.mola` section."""

    rank: int = Field(8, ge=1)
    """Inner width of each expert."""
    alpha: float = Field(16.0, gt=0)
    """An expert's output is scaled by alpha / rank."""
    dropout: float = Field(0.05, ge=0, lt=1)
    """Dropout before A. The router's input has no dropout."""
    targets: tuple[str, ...] | str = "all-linear"
    """Last name segments of the layers to adapt, or `all-linear`: every linear layer but the head and gates of one row."""
    experts: tuple[int, int, int, int] = (2, 8, 8, 2)
    """Experts in the layers of each quarter of the decoder, bottom up. The paper's shapes of equal size are 8642 (triangle),
    2468 (inverted), 8228 (hourglass), 2882 (diamond) and 5555 (rectangle)."""
    top_k: int = Field(2, ge=1)
    """Experts that a token is sent to. With 1 the weight of a pick is always 1, so only the balance loss trains the router."""
    balance: float = Field(0.001, ge=0)
    """Coefficient of the sum of the layers' load balance in the loss. It is on by default, as in the authors' script for instruction
    tuning; 0 switches it off, which is the default of their script for single tasks."""

    @model_validator(mode="after")
    def _enough_experts(self) -> Self:
        if min(self.experts) < self.top_k:
            raise ValueError(f"experts={self.experts} leaves layers with fewer experts than top_k={self.top_k}.")
        return self


SPEC = AdapterSpec(
    config=MolaConfig,
    of_rows=True,
    merges=False,
    linear=("B_OER",),
    no_lora="Every token has its own mixture of experts, and a LoRA is one matrix for all tokens.",
)
