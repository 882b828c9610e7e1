"""Settings of FourierFT, and the facts about it that need no torch."""

from pydantic import Field

from tasks.core.config import Config
from tasks.methods.adapters import AdapterSpec


class FourierftConfig(Config):
    """The `methods.fourierft` section. Its defaults are the paper's for LLaMA."""

    n: int = Field(1000, ge=1)
    """Coefficients that each layer learns."""
    alpha: float = Field(300.0, gt=0)
    """The update is scaled by it."""
    entry_seed: int = Field(777, ge=0)
    """Seed from which the places of the coefficients are drawn."""
    zero_start: bool = False
    """Start with coefficients of 0 rather than with noise: our design, not the paper's. A fresh model then equals the base."""
    targets: tuple[str, ...] | str = "all-linear"
    """Last name segments of the layers to adapt, or `all-linear`: every linear layer but the head and gates of one row."""


SPEC = AdapterSpec(
    config=FourierftConfig,
    difference="Its coefficients start as noise, as in the paper, unless `zero_start` is set.",
    merges=True,
    linear=("fourierft_spectrum",),
    wraps="peft.FourierFTConfig",
)
