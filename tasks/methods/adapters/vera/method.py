"""Functions of VeRA. Equations and the legend of shapes are in the docstring of the package."""

from peft import TaskType, VeraConfig
from torch import nn

from tasks.core.surgery import sizes
from tasks.methods.adapters import Adapter, _peft
from tasks.methods.adapters.vera.config import VeraConfig


def attach(model: nn.Module, config: VeraConfig) -> nn.Module:
    """Freeze `model` and put b and d beside each target. Raises ValueError where one is missing."""
    sizes(model, config.targets)
    config = VeraConfig(
        r=config.rank,
        d_initial=config.d_initial,
        vera_dropout=config.dropout,
        projection_prng_key=config.projection_seed,
        target_modules=_peft.named(config.targets),
        task_type=TaskType.CAUSAL_LM,
    )
    return _peft.wrap(model, config)


METHOD = Adapter(attach=attach, merge=_peft.merge)
