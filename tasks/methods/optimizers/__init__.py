"""Optimizers: how a step is made.

An optimizer's folder holds `SPEC = OptimizerSpec(config=…)` and `METHOD = Optimizer(make=…)`. `make(groups, config, seed)`
returns a torch optimizer with one group for each of `groups`, in their order and under their names; its learning rate is the
peak of the schedule.

One that needs no gradient says so in its spec, and its torch optimizer has `estimate(loss)`: called for each pack of a step
with a function that returns the pack's share of the loss, whose value it returns. The step is made in `step()` as by any other.

One that carries a pack through the blocks of the model says that it streams, and its torch optimizer has `stream(model, device, folder)`,
called once before the training, and `settle()`, called before anything looks at weights: a step may be due until then.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tasks.core.training import Group
from tasks.methods import TrainingSpec

if TYPE_CHECKING:
    from torch import optim


@dataclass(frozen=True, kw_only=True)
class OptimizerSpec(TrainingSpec):
    """The facts about an optimizer."""

    gradient_free: bool = False
    """True where the torch optimizer has `estimate`, and no gradient is computed."""
    streams: bool = False
    """True where the torch optimizer has `stream` and `settle`: blocks of the model are in memory one after the other."""


@dataclass(frozen=True, kw_only=True)
class Optimizer:
    """One way of making a step."""

    make: "Callable[[Sequence[Group], Any, int], optim.Optimizer]"


def param_groups(groups: Sequence[Group], learning_rate: float, weight_decay: float) -> list[dict[str, Any]]:
    """`groups` as torch's optimizers take them: each with its own rate, and decay where it is to decay."""
    return [
        {
            "params": list(group.parameters),
            "name": group.name,
            "lr": learning_rate * group.rate,
            "weight_decay": weight_decay if group.decay else 0.0,
        }
        for group in groups
    ]
