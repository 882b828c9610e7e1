"""Functions of MeZO. Equations and the legend of symbols are in the card, `__init__.py`; its steps are in `_mezo.py`."""

from collections.abc import Sequence

from tasks.core.training import Group
from tasks.methods.optimizers import Optimizer, param_groups
from tasks.methods.optimizers._mezo import Mezo
from tasks.methods.optimizers.mezo.config import MezoConfig


def make(groups: Sequence[Group], config: MezoConfig, seed: int) -> Mezo:
    """Return MeZO over `groups`."""
    prepared = param_groups(groups, config.learning_rate, config.weight_decay)
    return Mezo(prepared, config.eps, config.directions, seed)


METHOD = Optimizer(make=make)
