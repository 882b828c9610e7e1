"""Optimizers: how a step is made.

An optimizer's file holds `METHOD = Optimizer(params=…, make=…)`. `make(groups, params, seed)` returns a torch optimizer with one
group for each of `groups`, in their order and under their names; its learning rate is the peak of the schedule.

One that needs no gradient says so, and its torch optimizer has `estimate(loss)`: called for each pack of a step with a function
that returns the pack's share of the loss, whose value it returns. The step is made in `step()` as by any other.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tasks.core.params import Params
from tasks.core.training import Group

if TYPE_CHECKING:
    from torch import optim


@dataclass(frozen=True)
class Optimizer:
    """One way of making a step."""

    params: type[Params]
    make: "Callable[[Sequence[Group], Any, int], optim.Optimizer]"
    gradient_free: bool = False
    """Whether its optimizer has `estimate`, and no gradient is computed."""
    alone: str = ""
    """Why several processes cannot share its training, where they cannot."""
    wraps: str = ""
    """The library class that does it."""


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
