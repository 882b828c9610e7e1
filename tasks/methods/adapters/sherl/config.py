"""Settings of SHERL, and the facts about it that need no torch."""

from typing import Literal

from pydantic import Field

from tasks.core.config import Config
from tasks.methods.adapters import AdapterSpec


class SherlConfig(Config):
    """The `methods.sherl` section."""

    reduction: int = Field(8, ge=1)
    """The inner width is the hidden size divided by this."""
    every: int = Field(2, ge=0)
    """Distance between the layers whose outputs are features, counted downwards from the one below the last; the embeddings are a feature
    too. 0 leaves only the deepest feature: the control."""
    start: Literal["paper", "residual"] = "paper"
    """`paper`: at the start the last layer reads nothing of the layer below it. `residual`, our design: the model starts as the base."""


SPEC = AdapterSpec(
    config=SherlConfig,
    merges=False,
    across_layers=True,
    difference="By the paper's start the last layer reads the module alone; `start: residual` begins as the base.",
    no_lora="The module reads many layers at once, and a LoRA changes the weights of each.",
)
