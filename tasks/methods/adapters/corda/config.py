"""Settings of CorDA, and the facts about it that need no torch."""

from typing import Literal

from pydantic import Field

from tasks.core.config import Config
from tasks.methods.adapters import AdapterSpec


class CordaConfig(Config):
    """The `methods.corda` section."""

    rank: int = Field(128, ge=1)
    """Components of each layer that train."""
    mode: Literal["kpm", "ipm"] = "kpm"
    """`kpm` trains the components that the probe excites least, to keep what the probe holds; `ipm` those that it excites most."""
    covariance: Literal["probe", "identity"] = "probe"
    """`probe` orders the components of a weight by the probe's inputs; `identity`, the control, by the components' own size."""
    scale: float = Field(1.0, gt=0)
    """The update is scaled by it: the paper's 1, or peft's alpha / rank. A fresh model equals the base for any value."""
    targets: tuple[str, ...] | str = "all-linear"
    """Last name segments of the layers to adapt, or `all-linear`: every linear layer but the head and gates of one row."""


SPEC = AdapterSpec(config=CordaConfig, merges=True, undecayed=("A_RI", "B_OR"), held=("A0_RI", "B0_OR"))
