"""Settings of VeRA, and the facts about it that need no torch."""

from pydantic import Field

from tasks.core.config import Config
from tasks.methods.adapters import AdapterSpec


class VeraConfig(Config):
    """The `methods.vera` section."""

    rank: int = Field(256, ge=1)
    """Inner width of A and B, and the length of d."""
    d_initial: float = Field(0.1, gt=0)
    """The value of d at the start (table 6 compares values)."""
    dropout: float = Field(0.0, ge=0, lt=1)
    """Dropout before A."""
    projection_seed: int = Field(0, ge=0)
    """Seed from which A and B are drawn, Kaiming uniform."""
    targets: tuple[str, ...] | str = "all-linear"
    """Last name segments of the layers to adapt, or `all-linear`: every linear layer but the head and gates of one row."""


SPEC = AdapterSpec(config=VeraConfig, merges=True, linear=("vera_lambda_b",), wraps="peft.VeraConfig")
