"""Settings of LoKr, and the facts about it that need no torch."""

from pydantic import Field

from tasks.core.config import Config
from tasks.methods.adapters import AdapterSpec


class LokrConfig(Config):
    """The `methods.lokr` section."""

    rank: int = Field(8, ge=1)
    """Rank of the second factor. From half of the factor's longer side on, it is a full matrix."""
    alpha: float = Field(8.0, gt=0)
    """The update is scaled by alpha / rank."""
    factor: int = Field(-1, ge=-1)
    """Rows and columns of the first factor: the largest divisors of the layer's sides up to this number. -1: close to the second factor's."""
    decompose_both: bool = False
    """Give the first factor the rank too, if the rank is less than half of its longer side."""
    targets: tuple[str, ...] | str = "all-linear"
    """Last name segments of the layers to adapt, or `all-linear`: every linear layer but the head and gates of one row."""


SPEC = AdapterSpec(config=LokrConfig, merges=True, wraps="peft.LoKrConfig")
