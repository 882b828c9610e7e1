"""Settings of MixDA, and the facts about it that need no torch."""

from typing import Annotated, Literal

from pydantic import Field

from tasks.core.config import Config
from tasks.methods.adapters import AdapterSpec


class MixdaConfig(Config):
    """The `methods.mixda` section."""

    reduction: int = Field(16, ge=1)
    """The inner width of a domain's adapter is the width of the MLP divided by this."""
    places: tuple[Annotated[float, Field(ge=0, le=1)], ...] = Field((0.3, 0.45), min_length=1)
    """The layers with domains' adapters, as fractions of the depth; 0 is the first layer."""
    general: float = Field(2.0, ge=0)
    """Weight of L_S on each token of general text, in place of the token's loss. 0 is the control without it."""
    gate: Literal["softmax", "sigmoid"] = "softmax"
    """The function of the gate: the official code's softmax, or the paper's sigmoid."""
    gate_width: int = Field(64, ge=1)
    """Width of the gate's hidden layer."""
    task_rank: int = Field(16, ge=1)
    """Inner width of the task adapter."""


SPEC = AdapterSpec(
    config=MixdaConfig,
    of_rows=True,
    merges=False,
    of_domains=True,
    held=("down_NRI", "down_NR", "up_NHR", "up_NH"),
    difference="A fresh domain adapter gives 0, and beside it the MLP has half of its share.",
    no_lora="Every token has its own mixture of the MLP and the adapters, and a LoRA is one matrix for all tokens.",
)
