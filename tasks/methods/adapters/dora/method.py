"""Functions of DoRA. Equations and the legend of symbols are in the card, `__init__.py`."""

import peft
from torch import nn

from tasks.core.training import Start
from tasks.core.weights.surgery import check_rank
from tasks.methods.adapters import Adapter, _peft
from tasks.methods.adapters.dora.config import DoraConfig


def attach(model: nn.Module, config: DoraConfig, start: Start) -> nn.Module:
    """Freeze `model` and put m, A and B beside each target.

    Raises ValueError if a target is missing or smaller than the rank, or if peft 0.21 cannot read it.
    """
    check_rank(model, config.targets, config.rank)
    for name, weight in model.named_parameters():
        if not weight.is_floating_point() and hasattr(weight, "SCB") and weight.device.type == "cpu":
            raise ValueError(
                f"{name} is stored as {weight.dtype}, whose scales peft loses on a CPU. Use `base: nf4` or `base: none`."
            )
    return _peft.wrap(
        model,
        peft.LoraConfig(
            r=config.rank,
            lora_alpha=config.alpha,
            lora_dropout=config.dropout,
            target_modules=_peft.named(config.targets),
            use_dora=True,
            task_type=peft.TaskType.CAUSAL_LM,
        ),
    )


METHOD = Adapter(attach=attach, merge=_peft.merge)
