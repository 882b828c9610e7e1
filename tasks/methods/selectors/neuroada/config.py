"""Settings of NeuroAda, and the facts about it that need no torch."""

from typing import Literal

from pydantic import Field

from tasks.core.config import Config
from tasks.methods.selectors import SelectorSpec


class NeuroadaConfig(Config):
    """The `methods.neuroada` section. The authors' learning rates: 8e-3 for k = 1, 7e-4 for k = 20."""

    k: int = Field(1, ge=1)
    """Number of entries of each row that train; all of a row with fewer."""
    order: Literal["largest", "smallest", "random"] = "largest"
    """The entries that train: those of the largest magnitude; or, as controls, of the smallest, or random ones."""
    targets: tuple[str, ...] | str = "all-linear"
    """Last name segments of the layers whose rows train, or `all-linear`: every linear layer but the head and gates of one row."""


SPEC = SelectorSpec(config=NeuroadaConfig, merges=True)
