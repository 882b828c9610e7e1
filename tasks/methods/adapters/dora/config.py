"""Settings of DoRA, and the facts about it that need no torch."""

from pydantic import Field

from tasks.core.config import Config
from tasks.methods.adapters import AdapterSpec


class DoraConfig(Config):
    """The `methods.dora` section. Its defaults are the paper's for LLaMA-7B (appendix, table 8)."""

    rank: int = Field(32, ge=1)
    """Inner width of the update."""
    alpha: float = Field(64.0, gt=0)
    """The update is scaled by alpha / rank."""
    dropout: float = Field(0.05, ge=0, lt=1)
    """Dropout before A."""
    targets: tuple[str, ...] | str = "all-linear"
    """Last name segments of the layers to adapt, or `all-linear`: every linear layer but the head and gates of one row."""


SPEC = AdapterSpec(config=DoraConfig, merges=True, wraps="peft.LoraConfig")
