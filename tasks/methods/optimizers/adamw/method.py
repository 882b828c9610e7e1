"""Functions of AdamW. Equations and the legend of symbols are in the card, `__init__.py`."""

from collections.abc import Sequence

from torch import optim

from tasks.core.training import Group
from tasks.methods.optimizers import Optimizer, param_groups
from tasks.methods.optimizers.adamw.config import AdamwConfig


def make(groups: Sequence[Group], config: AdamwConfig, seed: int) -> optim.Optimizer:
    """Return AdamW over `groups`."""
    prepared = param_groups(groups, config.learning_rate, config.weight_decay)
    return optim.AdamW(prepared, lr=config.learning_rate, betas=config.betas, eps=config.eps)


METHOD = Optimizer(make=make)
