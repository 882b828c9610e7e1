"""Settings of SHERL, and the facts about it that need no torch."""

from typing import Literal

from pydantic import Field

from tasks.core.config import Config
from tasks.methods.adapters import AdapterSpec


class SherlConfig(Config):
    """The `methods.sherl` section."""

    reduction: int = Field(8, ge=1)
    """The inner width is the hidden size over this."""
    every: int = Field(2, ge=0)
    """Features are the outputs of layers so many apart, from the one below the last downwards, and the embeddings. 0 leaves all out but the
    deepest: the control."""
    start: Literal["paper", "residual"] = "paper"
    """The paper's start, at which the last layer reads nothing of the layer below it; or, ours, one that begins as the base."""


SPEC = AdapterSpec(
    config=SherlConfig,
    merges=False,
    across_layers=True,
    difference="By the paper's start the last layer reads the module alone; `start: residual` begins as the base.",
    no_lora="The module reads many layers at once, and a LoRA changes the weights of each.",
)
