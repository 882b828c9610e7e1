"""Settings of PAT, and the facts about it that need no torch."""

from typing import Literal

from pydantic import Field

from tasks.core.config import Config
from tasks.methods.adapters import AdapterSpec


class PatConfig(Config):
    """The `methods.pat` section."""

    width: int | None = Field(None, ge=1)
    """Number of hidden channels that are kept: a multiple of the attention heads, and of 32 if `gguf` is to store blocks. Null keeps three
    quarters of the model's."""
    mask: Literal["learned", "fixed", "before"] = "learned"
    """The channels that are kept: `learned` ones; or, as controls, the first ones (`fixed`), or those that the base writes most to, chosen
    before the training (`before`)."""
    milestone: float = Field(1 / 3, gt=0, lt=1)
    """Share of the steps after which the other channels are dropped."""
    mask_rate: float = Field(1.0, gt=0)
    """Learning rate of the mask, as a multiple of the optimizer's. 1 is the paper's value, with channels dropped after 10,000 steps."""
    rank: int = Field(20, ge=1)
    """Inner width of the LoRA, which adapts every linear layer but the head and gates of one row."""
    alpha: float = Field(4.0, gt=0)
    """The LoRA's update is scaled by alpha / rank."""
    dropout: float = Field(0.05, ge=0, lt=1)
    """Dropout before A."""
    operator_rank: int | None = Field(None, ge=0)
    """Inner width of an operator. Null is a twentieth of the model's hidden size; with 0 there are no operators, only the mask."""
    count_weight: float = Field(10.0, ge=0)
    """Weight of the loss that counts the channels above 0."""
    separation_weight: float = Field(1.0, ge=0)
    """Weight of the loss that pulls the w of each channel to -1/2 or 1/2."""
    identity_weight: float = Field(1.0, ge=0)
    """Weight of the loss that makes the rows of each L0 orthonormal."""


SPEC = AdapterSpec(
    config=PatConfig,
    merges=True,
    held=("kept_H",),
    acts_between_steps=True,
    narrows=True,
    no_lora="A LoRA leaves every weight as wide as it is, and here the model becomes narrower.",
)
