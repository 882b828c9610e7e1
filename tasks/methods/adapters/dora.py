"""DoRA: a weight's direction is tuned by a low-rank update, and its magnitude by a vector of its own.

Liu et al. 2024, https://arxiv.org/abs/2402.09353, eq. 5 and sec. 4.3:  W' = m (W + s B A) / |W + s B A|
with s = alpha / rank, B = 0 and m = |W| at the start, and no gradient through the norm. The norm is that of the numbers which
make up one output, which the paper calls a column and torch keeps as a row.
A wrapper over peft's `LoraConfig(use_dora=True)`. The paper adapts q, k, v, up and down; here all linear layers are the default.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from tasks.core.params import Params
from tasks.core.surgery import check_rank
from tasks.methods.adapters import Adapter, _peft

if TYPE_CHECKING:
    from torch import nn


class DoraParams(Params):
    """The `methods.dora` section. Its defaults are the paper's for LLaMA-7B (appendix, table 8)."""

    rank: int = Field(32, ge=1)
    """Inner width of the update."""
    alpha: float = Field(64.0, gt=0)
    """The update is scaled by alpha / rank."""
    dropout: float = Field(0.05, ge=0, lt=1)
    """Dropout before A."""
    targets: tuple[str, ...] | str = "all-linear"
    """Last name segments of the layers to adapt, or `all-linear`: every linear layer but the head."""


def attach(model: nn.Module, params: DoraParams) -> nn.Module:
    """Freeze `model` and put m, A and B beside each target.

    Raises ValueError where a target is missing or smaller than the rank, and where peft 0.21 cannot read it.
    """
    from peft import LoraConfig, TaskType

    check_rank(model, params.targets, params.rank)
    for name, weight in model.named_parameters():
        if not weight.is_floating_point() and hasattr(weight, "SCB") and weight.device.type == "cpu":
            raise ValueError(
                f"{name} is stored as {weight.dtype}, whose scales peft loses on a CPU. Use `base: nf4` or `base: none`."
            )
    config = LoraConfig(
        r=params.rank,
        lora_alpha=params.alpha,
        lora_dropout=params.dropout,
        target_modules=_peft.named(params.targets),
        use_dora=True,
        task_type=TaskType.CAUSAL_LM,
    )
    return _peft.wrap(model, config)


METHOD = Adapter(params=DoraParams, attach=attach, merge=_peft.merge, wraps="peft.LoraConfig")
