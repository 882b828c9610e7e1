"""Functions of LoRA. Equations and the legend of shapes are in the docstring of the package."""

from peft import LoraConfig, TaskType
from torch import nn

from tasks.core.surgery import check_rank
from tasks.methods.adapters import Adapter, _peft
from tasks.methods.adapters.lora.config import LoraConfig


def attach(model: nn.Module, config: LoraConfig) -> nn.Module:
    """Freeze `model` and put A and B beside each target. Raises ValueError where one is missing or smaller than the rank."""
    check_rank(model, config.targets, config.rank)
    config = LoraConfig(
        r=config.rank,
        lora_alpha=config.alpha,
        lora_dropout=config.dropout,
        target_modules=_peft.named(config.targets),
        use_rslora=config.rslora,
        task_type=TaskType.CAUSAL_LM,
    )
    return _peft.wrap(model, config)


METHOD = Adapter(attach=attach, merge=_peft.merge)
