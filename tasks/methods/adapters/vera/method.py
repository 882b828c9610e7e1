"""Functions of VeRA. Equations and the legend of symbols are in the card, `__init__.py`."""

import peft
from torch import nn

from tasks.core.training import Start
from tasks.core.weights.surgery import sizes
from tasks.methods.adapters import Adapter, _peft
from tasks.methods.adapters.vera.config import VeraConfig


def attach(model: nn.Module, config: VeraConfig, start: Start) -> nn.Module:
    """Freeze `model` and put b and d beside each target. Raises ValueError if one is missing."""
    sizes(model, config.targets)
    return _peft.wrap(
        model,
        peft.VeraConfig(
            r=config.rank,
            d_initial=config.d_initial,
            vera_dropout=config.dropout,
            projection_prng_key=config.projection_seed,
            target_modules=_peft.named(config.targets),
            task_type=peft.TaskType.CAUSAL_LM,
        ),
    )


METHOD = Adapter(attach=attach, merge=_peft.merge)
