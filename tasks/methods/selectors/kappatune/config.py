"""Settings of KappaTune, and the facts about it that need no torch."""

from typing import Literal

from pydantic import Field

from tasks.core.config import Config
from tasks.methods.selectors import SelectorSpec


class KappatuneConfig(Config):
    """The `methods.kappatune` section."""

    share: float = Field(0.2, gt=0, le=1)
    """Share of the linear layers that train, one at least; peft's `top_p`."""
    normalize: Literal["none", "within_shape"] = "none"
    """`none`: the lowest of all, as in the paper. `within_shape`: the lowest of each shape, which kappa would sort."""
    order: Literal["lowest", "highest", "random"] = "lowest"
    """The layers that train: those of the lowest condition number, or as a control as many of each shape of the highest, or drawn."""
    largest: int = Field(16384, ge=1)
    """Weights with a longer side than this are left out, since their singular values take long."""


SPEC = SelectorSpec(config=KappatuneConfig, wraps="peft.helpers.KappaTuneSelector")
