"""Settings of LoLDU, and the facts about it that need no torch."""

from typing import Literal

from pydantic import Field

from tasks.core.config import Config
from tasks.methods.adapters import AdapterSpec


class LolduConfig(Config):
    """The `methods.loldu` section."""

    rank: int = Field(128, ge=1)
    """Numbers trained in each layer, at most as many as the smallest of them has rows or columns."""
    alpha: float = Field(1.0, gt=0)
    """The trained part is scaled by alpha / rank, which only changes how far a step of z goes."""
    targets: tuple[str, ...] | str = ("q_proj", "v_proj")
    """Last name segments of the layers to adapt, or `all-linear`: every linear layer but the head and gates of one row."""
    directions: Literal["lu", "random"] = "lu"
    """L_r and U_r of the weight, or random triangles whose columns and rows are as long as theirs."""
    init: Literal["lu", "uniform", "s_uniform", "normal", "s_normal", "constant", "ones", "zeros"] = "lu"
    """The start of z. `lu`: d_r, and the model is the base. With all others it is not: uniform in ± half the mean of d_r,
    uniform in ± 1, normal with the mean and deviation of d_r, standard normal, the mean of d_r, 1, 0."""


SPEC = AdapterSpec(config=LolduConfig, merges=True)
