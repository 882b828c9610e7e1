"""Settings of LocFT-BF, and the facts about it that need no torch."""

from pydantic import Field

from tasks.core.config import Config
from tasks.methods.selectors import SelectorSpec


class LocftBfConfig(Config):
    """The `methods.locft_bf` section."""

    layer: int | None = Field(None, ge=0)
    """Number of the decoder layer that trains, counted from 0 at the bottom. Null: int(0.7 L) of L layers, which is 22 of 32."""
    module: str = "mlp.down_proj"
    """Name of the module within the layer that trains; empty for the whole layer."""


SPEC = SelectorSpec(config=LocftBfConfig)
