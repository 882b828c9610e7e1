"""Functions of (IA)³. Equations and the legend of symbols are in the card, `__init__.py`."""

import peft
from torch import nn

from tasks.core.training import Start
from tasks.core.weights.surgery import ALL_LINEAR, sizes
from tasks.methods.adapters import Adapter, _peft
from tasks.methods.adapters.ia3.config import Ia3Config


def attach(model: nn.Module, config: Ia3Config, start: Start) -> nn.Module:
    """Freeze `model` and put a vector of ones beside each target. Raises ValueError if one is missing."""
    named = {name.rpartition(".")[2] for name in sizes(model, config.targets)}
    chosen = _peft.all_linear(model) if _peft.named(config.targets) == ALL_LINEAR else named
    if config.feedforward:
        sizes(model, config.feedforward)  # refuses a name that no layer has
    return _peft.wrap(
        model,
        peft.IA3Config(
            target_modules=sorted(chosen),  # peft opens no adapter whose feedforward layers are not among them by name
            feedforward_modules=[name for name in config.feedforward if name in chosen],
            task_type=peft.TaskType.CAUSAL_LM,
        ),
    )


METHOD = Adapter(attach=attach, merge=_peft.merge)
