"""FourierFT: a weight's update is the inverse Fourier transform of a few learnt coefficients at fixed random places.

Gao et al. 2024, https://arxiv.org/abs/2405.03003, eq. 2-4:

    F[j_k, l_k] = c_k for k = 1 … n, 0 elsewhere;   S = IDFT₂(F);   h = W x + alpha · Re(S) x

The places (j, l) are drawn once and are the same in all layers of one shape. The coefficients c start as standard normal noise, so
that a fresh model differs from the base.
A wrapper over peft's `FourierFTConfig`. The paper adapts q and v; here all linear layers are the default.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from tasks.core.params import Params
from tasks.core.surgery import sizes
from tasks.methods.adapters import Adapter, _peft

if TYPE_CHECKING:
    from torch import nn


class FourierftParams(Params):
    """The `methods.fourierft` section. Its defaults are the paper's for LLaMA."""

    n: int = Field(1000, ge=1)
    """Coefficients that each layer learns."""
    alpha: float = Field(300.0, gt=0)
    """The update is scaled by it."""
    entry_seed: int = Field(777, ge=0)
    """The places of the coefficients are drawn from it."""
    zero_start: bool = False
    """Start with coefficients of 0 rather than with noise: our design, not the paper's. A fresh model is the base then."""
    targets: tuple[str, ...] | str = "all-linear"
    """Last name segments of the layers to adapt, or `all-linear`: every linear layer but the head."""


def attach(model: nn.Module, params: FourierftParams) -> nn.Module:
    """Freeze `model` and put c beside each target. Raises ValueError where one is missing or has fewer numbers than n."""
    from peft import FourierFTConfig, TaskType

    name, (out, into) = min(sizes(model, params.targets).items(), key=lambda item: item[1][0] * item[1][1])
    if params.n > out * into:
        raise ValueError(
            f"n {params.n} is above the numbers of {name}, which is {out} × {into}: take at most {out * into}."
        )
    config = FourierFTConfig(
        n_frequency=params.n,
        scaling=params.alpha,
        random_loc_seed=params.entry_seed,
        init_weights=params.zero_start,
        target_modules=_peft.named(params.targets),
        task_type=TaskType.CAUSAL_LM,
    )
    return _peft.wrap(model, config)


METHOD = Adapter(
    params=FourierftParams,
    attach=attach,
    merge=_peft.merge,
    difference="Its coefficients start as noise, as in the paper, unless `zero_start` is set.",
    wraps="peft.FourierFTConfig",
)
