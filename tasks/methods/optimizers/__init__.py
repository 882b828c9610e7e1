"""Optimizers: the ways to make a training step.

An optimizer's folder holds `SPEC = OptimizerSpec(config=…)` and `METHOD = Optimizer(make=…)`. `make(groups, config, seed)`
returns a torch optimizer with one param group for each of `groups`, in their order and with their names; its learning rate is the
peak of the schedule.

The spec says if an optimizer needs no gradient. Its torch optimizer then has `estimate(loss)`, which is called for each pack of a step
with a function that returns the pack's share of the loss, and returns the loss. The step is made in `step()`, as always.

The spec also says if an optimizer streams, that is, loads the blocks of the model one after the other. Its torch optimizer then has
`stream(model, device, folder)`, which is called once before the training, and `settle()`, which is called before anything reads weights, to
make a step that is still due.
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
    """True if the torch optimizer has `estimate`; no gradient is computed."""
    streams: bool = False
    """True if the torch optimizer has `stream` and `settle`: blocks of the model are in memory one after the other."""


@dataclass(frozen=True, kw_only=True)
class Optimizer:
    """One way of making a step."""

    make: "Callable[[Sequence[Group], Any, int], optim.Optimizer]"


def param_groups(groups: Sequence[Group], learning_rate: float, weight_decay: float) -> list[dict[str, Any]]:
    """Return `groups` as param groups of torch: each with its own learning rate, and with weight decay only if it is to decay."""
    return [
        {
            "params": list(group.parameters),
            "name": group.name,
            "lr": learning_rate * group.rate,
            "weight_decay": weight_decay if group.decay else 0.0,
        }
        for group in groups
    ]
