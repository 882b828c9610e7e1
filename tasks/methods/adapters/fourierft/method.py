"""Functions of FourierFT. Equations and the legend of symbols are in the card, `__init__.py`."""

import peft
from torch import nn

from tasks.core.training import Start
from tasks.core.weights.surgery import adapted_sizes
from tasks.methods.adapters import Adapter, _peft
from tasks.methods.adapters.fourierft.config import FourierftConfig


def attach(model: nn.Module, config: FourierftConfig, start: Start) -> nn.Module:
    """Freeze `model` and put c beside each target. Raises ValueError if one is missing or has fewer numbers than n."""
    name, (out, into) = min(adapted_sizes(model, config.targets).items(), key=lambda item: item[1][0] * item[1][1])
    if config.n > out * into:
        raise ValueError(
            f"n {config.n} is above the number of weights of {name}, {out} × {into}: take at most {out * into}."
        )
    return _peft.wrap(
        model,
        peft.FourierFTConfig(
            n_frequency=config.n,
            scaling=config.alpha,
            random_loc_seed=config.entry_seed,
            init_weights=config.zero_start,
            target_modules=_peft.named(config.targets),
            task_type=peft.TaskType.CAUSAL_LM,
        ),
    )


METHOD = Adapter(attach=attach, merge=_peft.merge)
