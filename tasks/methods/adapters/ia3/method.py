"""Functions of (IA)³. Equations and the legend of shapes are in the docstring of the package."""

from peft import IA3Config, TaskType
from torch import nn

from tasks.core.surgery import sizes
from tasks.methods.adapters import Adapter, _peft
from tasks.methods.adapters.ia3.config import Ia3Config


def attach(model: nn.Module, config: Ia3Config) -> nn.Module:
    """Freeze `model` and put a vector of ones beside each target. Raises ValueError where one is missing."""
    chosen = {name.rpartition(".")[2] for name in sizes(model, config.targets)}
    if config.feedforward:
        sizes(model, config.feedforward)  # a name that no layer has is refused
    config = IA3Config(
        target_modules=_peft.named(config.targets),
        feedforward_modules=[name for name in config.feedforward if name in chosen],
        task_type=TaskType.CAUSAL_LM,
    )
    return _peft.wrap(model, config)


METHOD = Adapter(attach=attach, merge=_peft.merge)
