"""Functions of LoKr. Equations and the legend of symbols are in the card, `__init__.py`."""

import peft
from torch import nn

from tasks.core.training import Start
from tasks.core.weights.surgery import check_rank, linears
from tasks.methods.adapters import Adapter, _peft
from tasks.methods.adapters.lokr.config import LokrConfig


def attach(model: nn.Module, config: LokrConfig, start: Start) -> nn.Module:
    """Freeze `model` and put C and D beside each target. Raises ValueError if one is missing, smaller than the rank, or quantised."""
    check_rank(model, config.targets, config.rank)
    linears(model, config.targets)  # peft would take the shape of quantised storage for the layer's
    return _peft.wrap(
        model,
        peft.LoKrConfig(
            r=config.rank,
            alpha=config.alpha,
            decompose_factor=config.factor,
            decompose_both=config.decompose_both,
            target_modules=_peft.named(config.targets),
            task_type=peft.TaskType.CAUSAL_LM,
        ),
    )


METHOD = Adapter(attach=attach, merge=_peft.merge)
