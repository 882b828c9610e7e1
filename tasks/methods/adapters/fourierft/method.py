"""Functions of FourierFT. Equations and the legend of shapes are in the docstring of the package."""

from peft import FourierFTConfig, TaskType
from torch import nn

from tasks.core.surgery import sizes
from tasks.methods.adapters import Adapter, _peft
from tasks.methods.adapters.fourierft.config import FourierftConfig


def attach(model: nn.Module, config: FourierftConfig) -> nn.Module:
    """Freeze `model` and put c beside each target. Raises ValueError where one is missing or has fewer numbers than n."""
    name, (out, into) = min(sizes(model, config.targets).items(), key=lambda item: item[1][0] * item[1][1])
    if config.n > out * into:
        raise ValueError(
            f"n {config.n} is above the numbers of {name}, which is {out} × {into}: take at most {out * into}."
        )
    config = FourierFTConfig(
        n_frequency=config.n,
        scaling=config.alpha,
        random_loc_seed=config.entry_seed,
        init_weights=config.zero_start,
        target_modules=_peft.named(config.targets),
        task_type=TaskType.CAUSAL_LM,
    )
    return _peft.wrap(model, config)


METHOD = Adapter(attach=attach, merge=_peft.merge)
