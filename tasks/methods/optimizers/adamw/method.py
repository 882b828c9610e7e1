"""Functions of AdamW. Equations and the legend of shapes are in the docstring of the package."""

from collections.abc import Sequence

from torch import optim
from torch.optim import AdamW

from tasks.core.training import Group
from tasks.methods.optimizers import Optimizer, param_groups
from tasks.methods.optimizers.adamw.config import AdamwConfig


def make(groups: Sequence[Group], config: AdamwConfig, seed: int) -> optim.Optimizer:
    """AdamW over `groups`."""
    settings = param_groups(groups, config.learning_rate, config.weight_decay)
    return AdamW(settings, lr=config.learning_rate, betas=config.betas, eps=config.eps)


METHOD = Optimizer(make=make)
