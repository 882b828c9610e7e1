"""Settings of KappaTune, and the facts about it that need no torch."""

from typing import Literal

from pydantic import Field

from tasks.core.config import Config
from tasks.methods.selectors import SelectorSpec


class KappatuneConfig(Config):
    """The `methods.kappatune` section."""

    share: float = Field(0.2, gt=0, le=1)
    """Share of the linear layers that train, at least one layer; peft's `top_p`."""
    normalize: Literal["none", "within_shape"] = "none"
    """`none`: the lowest condition numbers of all layers, as in the paper. `within_shape`: the lowest of each shape, since condition numbers
    depend on shape."""
    order: Literal["lowest", "highest", "random"] = "lowest"
    """The layers that train: those of the lowest condition number; or, as controls, equally many of each shape, of the highest or random."""
    largest: int = Field(16384, ge=1)
    """Weights with a side longer than this are left out, since computing their singular values takes long."""


SPEC = SelectorSpec(config=KappatuneConfig, wraps="peft.helpers.KappaTuneSelector")
