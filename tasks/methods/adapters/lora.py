"""LoRA: a frozen weight plus a trained product of two thin matrices.

Hu et al. 2021, https://arxiv.org/abs/2106.09685, eq. 3:  h = W x + (alpha / rank) B A x, with B = 0 at the start.
A wrapper over peft's `LoraConfig`, which ships it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from tasks.core.params import Params
from tasks.core.surgery import check_rank
from tasks.methods.adapters import Adapter, _peft

if TYPE_CHECKING:
    from torch import nn


class LoraParams(Params):
    """The `methods.lora` section."""

    rank: int = Field(16, ge=1)
    """Inner width of the update."""
    alpha: float = Field(32.0, gt=0)
    """The update is scaled by alpha / rank."""
    dropout: float = Field(0.0, ge=0, lt=1)
    """Dropout before A."""
    targets: tuple[str, ...] | str = "all-linear"
    """Last name segments of the layers to adapt, or `all-linear`: every linear layer but the head."""
    rslora: bool = False
    """Scale by alpha / sqrt(rank) instead (Kalajdzievski 2023, https://arxiv.org/abs/2312.03732)."""


def attach(model: nn.Module, params: LoraParams) -> nn.Module:
    """Freeze `model` and put A and B beside each target. Raises ValueError where one is missing or smaller than the rank."""
    from peft import LoraConfig, TaskType

    check_rank(model, params.targets, params.rank)
    config = LoraConfig(
        r=params.rank,
        lora_alpha=params.alpha,
        lora_dropout=params.dropout,
        target_modules=_peft.named(params.targets),
        use_rslora=params.rslora,
        task_type=TaskType.CAUSAL_LM,
    )
    return _peft.wrap(model, config)


METHOD = Adapter(params=LoraParams, attach=attach, merge=_peft.merge, wraps="peft.LoraConfig")
