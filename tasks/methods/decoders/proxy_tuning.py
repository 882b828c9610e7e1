"""Proxy-tuning: steer a large model by what tuning changed in a small one.

Liu et al. 2024, https://arxiv.org/abs/2401.08565, sec. 2:  s = s_M + alpha (s_M+ - s_M-),  p = softmax(s)
so that p is proportional to p_M (p_M+ / p_M-)^alpha. M is the large model, M+ (the expert) the tuned small one and M- (the
antiexpert) the small one before. No weight of M is touched, and none is read but through its logits.
Shapes: B = rows, V = tokens that all three models share.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pydantic import Field

from tasks.core.params import Params
from tasks.methods.decoders import Decoder

if TYPE_CHECKING:
    from torch import Tensor


class ProxyTuningParams(Params):
    """The `methods.proxy_tuning` section."""

    alpha: float = Field(1.0, ge=0)
    """How far to steer: 0 is the large model alone. The paper uses 1, and sweeps 0.2 to 2."""
    steers: str = ""
    """For stage `evaluate`: the folder of the large model. The measured model is the expert, its `base` the antiexpert."""
    digest: str = ""
    """What `steers` holds, by hash: DVC does not watch that folder, so a changed model has to be a changed setting. The stage
    says what to write here."""


def combine(main_BV: Tensor, helpers: Sequence[Tensor], params: ProxyTuningParams) -> Tensor:
    """The large model's logits, moved by the expert's minus the antiexpert's."""
    expert_BV, antiexpert_BV = helpers
    return main_BV + params.alpha * (expert_BV - antiexpert_BV)


METHOD = Decoder(params=ProxyTuningParams, combine=combine, helpers=("expert", "antiexpert"))
