"""VeRA: all layers share one frozen random pair A, B, and each learns two vectors that scale it.

Kopiczko et al. 2023, https://arxiv.org/abs/2310.11454, eq. 2:  h = W x + Λ_b B Λ_d A x, with b = 0 and d = d_initial at the start.
Layers of other shapes take the first rows of B and the first columns of A. A and B are frozen and need not be thin (sec. 3.1): the
rank may exceed a layer's size.
A wrapper over peft's `VeraConfig`. It saves A and B beside the vectors, since torch promises no equal draws across versions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from tasks.core.params import Params
from tasks.core.surgery import sizes
from tasks.methods.adapters import Adapter, _peft

if TYPE_CHECKING:
    from torch import nn


class VeraParams(Params):
    """The `methods.vera` section."""

    rank: int = Field(256, ge=1)
    """Inner width of A and B, and the length of d."""
    d_initial: float = Field(0.1, gt=0)
    """What d is filled with at the start (table 6 compares values)."""
    dropout: float = Field(0.0, ge=0, lt=1)
    """Dropout before A."""
    projection_seed: int = Field(0, ge=0)
    """A and B are drawn from it, Kaiming uniform."""
    targets: tuple[str, ...] | str = "all-linear"
    """Last name segments of the layers to adapt, or `all-linear`: every linear layer but the head."""


def attach(model: nn.Module, params: VeraParams) -> nn.Module:
    """Freeze `model` and put b and d beside each target. Raises ValueError where one is missing."""
    from peft import TaskType, VeraConfig

    sizes(model, params.targets)
    config = VeraConfig(
        r=params.rank,
        d_initial=params.d_initial,
        vera_dropout=params.dropout,
        projection_prng_key=params.projection_seed,
        target_modules=_peft.named(params.targets),
        task_type=TaskType.CAUSAL_LM,
    )
    return _peft.wrap(model, config)


METHOD = Adapter(params=VeraParams, attach=attach, merge=_peft.merge, wraps="peft.VeraConfig")
