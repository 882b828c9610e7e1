"""Settings of LoLDU, and the facts about it that need no torch."""

from typing import Literal

from pydantic import Field

from tasks.core.config import Config
from tasks.methods.adapters import AdapterSpec


class LolduConfig(Config):
    """The `methods.loldu` section."""

    rank: int = Field(128, ge=1)
    """Numbers trained in each layer, at most the smallest number of rows or columns of any layer."""
    alpha: float = Field(1.0, gt=0)
    """The trained part is scaled by alpha / rank, which only changes the effect of a step of z."""
    targets: tuple[str, ...] | str = ("q_proj", "v_proj")
    """Last name segments of the layers to adapt, or `all-linear`: every linear layer but the head and gates of one row."""
    directions: Literal["lu", "random"] = "lu"
    """`lu`: L_r and U_r of the weight. `random`, the control: random triangles whose columns and rows have the same norms."""
    init: Literal["lu", "uniform", "s_uniform", "normal", "s_normal", "constant", "ones", "zeros"] = "lu"
    """The start of z. With `lu` it is d_r, and the fresh model equals the base; with all others it does not. They are, in this order:
    uniform in ± half the mean of d_r, uniform in ± 1, normal with the mean and deviation of d_r, standard normal, the mean of d_r, 1, 0."""


SPEC = AdapterSpec(config=LolduConfig, merges=True)
