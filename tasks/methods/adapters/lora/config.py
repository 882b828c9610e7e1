"""Settings of LoRA, and the facts about it that need no torch."""

from pydantic import Field

from tasks.core.config import Config
from tasks.methods.adapters import AdapterSpec


class LoraConfig(Config):
    """The `methods.lora` section."""

    rank: int = Field(16, ge=1)
    """Inner width of the update."""
    alpha: float = Field(32.0, gt=0)
    """The update is scaled by alpha / rank."""
    dropout: float = Field(0.0, ge=0, lt=1)
    """Dropout before A."""
    targets: tuple[str, ...] | str = "all-linear"
    """Last name segments of the layers to adapt, or `all-linear`: every linear layer but the head and gates of one row."""
    rslora: bool = False
    """Scale by alpha / sqrt(rank) instead (Kalajdzievski 2023, https://arxiv.org/abs/2312.03732)."""


SPEC = AdapterSpec(config=LoraConfig, merges=True, linear=("lora_B",), wraps="peft.LoraConfig")
