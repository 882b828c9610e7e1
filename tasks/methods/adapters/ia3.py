"""(IA)³: three learnt vectors a layer rescale its keys, its values and the inner activations of its MLP.

Liu et al. 2022, https://arxiv.org/abs/2205.05638, sec. 3.3:  softmax(Q (l_k ⊙ K)ᵀ / √d) (l_v ⊙ V)  and  (l_ff ⊙ γ(W₁ x)) W₂
with all three vectors 1 at the start.
A wrapper over peft's `IA3Config`, which rescales a layer's output, bias included, or its input. Under rotary positions keys are
rescaled before they are rotated. The paper has no further settings.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tasks.core.params import Params
from tasks.core.surgery import sizes
from tasks.methods.adapters import Adapter, _peft

if TYPE_CHECKING:
    from torch import nn


class Ia3Params(Params):
    """The `methods.ia3` section."""

    targets: tuple[str, ...] | str = ("k_proj", "v_proj", "down_proj")
    """Last name segments of the layers to rescale, or `all-linear`: every linear layer but the head."""
    feedforward: tuple[str, ...] = ("down_proj",)
    """Those among them whose input is rescaled rather than their output: the last layer of the MLP."""


def attach(model: nn.Module, params: Ia3Params) -> nn.Module:
    """Freeze `model` and put a vector of ones beside each target. Raises ValueError where one is missing."""
    from peft import IA3Config, TaskType

    chosen = {name.rpartition(".")[2] for name in sizes(model, params.targets)}
    if params.feedforward:
        sizes(model, params.feedforward)  # a name that no layer has is refused
    config = IA3Config(
        target_modules=_peft.named(params.targets),
        feedforward_modules=[name for name in params.feedforward if name in chosen],
        task_type=TaskType.CAUSAL_LM,
    )
    return _peft.wrap(model, config)


METHOD = Adapter(params=Ia3Params, attach=attach, merge=_peft.merge, wraps="peft.IA3Config")
