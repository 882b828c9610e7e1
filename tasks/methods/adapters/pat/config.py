"""Settings of PAT, and the facts about it that need no torch."""

from typing import Literal

from pydantic import Field

from tasks.core.config import Config
from tasks.methods.adapters import AdapterSpec


class PatConfig(Config):
    """The `methods.pat` section."""

    width: int | None = Field(None, ge=1)
    """Hidden channels that are kept: a multiple of the attention heads, and of 32 where `gguf` is to store blocks. Without a number three quarters
    of the model's."""
    mask: Literal["learned", "fixed", "before"] = "learned"
    """The channels that are kept are learned; or, as controls, the first ones, or before the training those that the base writes most to."""
    milestone: float = Field(1 / 3, gt=0, lt=1)
    """Share of the steps after which the other channels are dropped."""
    mask_rate: float = Field(1.0, gt=0)
    """Learning rate of the mask, as a multiple of the optimizer's. 1 is the paper's, where channels are dropped after 10,000 steps."""
    rank: int = Field(20, ge=1)
    """Inner width of the LoRA, which is on every linear layer but the head and gates of one row."""
    alpha: float = Field(4.0, gt=0)
    """The LoRA's update is scaled by alpha / rank."""
    dropout: float = Field(0.05, ge=0, lt=1)
    """Dropout before A."""
    operator_rank: int | None = Field(None, ge=0)
    """Inner width of an operator. Without a number a twentieth of the model's hidden size; with 0 there are no operators, only the mask."""
    count_weight: float = Field(10.0, ge=0)
    """Weight of the loss that counts the channels above 0."""
    separation_weight: float = Field(1.0, ge=0)
    """Weight of the loss that draws each channel of the mask to -1/2 or 1/2."""
    identity_weight: float = Field(1.0, ge=0)
    """Weight of the loss that draws the rows of each L0 to an orthonormal system."""


SPEC = AdapterSpec(
    config=PatConfig,
    merges=True,
    held=("kept_H",),
    acts_between_steps=True,
    narrows=True,
    no_lora="A LoRA leaves every weight as wide as it is, and here the model becomes narrower.",
)
