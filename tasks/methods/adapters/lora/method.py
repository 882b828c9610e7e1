"""Functions of LoRA. Equations and the legend of symbols are in the card, `__init__.py`."""

import peft
from torch import nn

from tasks.core.training import Start
from tasks.core.weights.surgery import check_rank
from tasks.methods.adapters import Adapter, _peft
from tasks.methods.adapters.lora.config import LoraConfig


def attach(model: nn.Module, config: LoraConfig, start: Start) -> nn.Module:
    """Freeze `model` and put A and B beside each target. Raises ValueError if one is missing or smaller than the rank."""
    check_rank(model, config.targets, config.rank)
    return _peft.wrap(
        model,
        peft.LoraConfig(
            r=config.rank,
            lora_alpha=config.alpha,
            lora_dropout=config.dropout,
            target_modules=_peft.named(config.targets),
            use_rslora=config.rslora,
            task_type=peft.TaskType.CAUSAL_LM,
        ),
    )


METHOD = Adapter(attach=attach, merge=_peft.merge)
