"""Settings of (IA)³, and the facts about it that need no torch."""

from tasks.core.config import Config
from tasks.methods.adapters import AdapterSpec


class Ia3Config(Config):
    """The `methods.ia3` section."""

    targets: tuple[str, ...] | str = ("k_proj", "v_proj", "down_proj")
    """Last name segments of the layers to rescale, or `all-linear`: every linear layer but the head and gates of one row."""
    feedforward: tuple[str, ...] = ("down_proj",)
    """The targets whose input is rescaled instead of their output: the last layer of the MLP."""


SPEC = AdapterSpec(config=Ia3Config, merges=True, wraps="peft.IA3Config")
