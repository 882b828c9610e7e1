"""Routers: choose, for each prompt, an adapter of a bank or the base without one.

A router's folder holds `SPEC = RouterSpec(config=…)` and `METHOD = Router(route=…)`. `route(asked, bank, config)` returns the name of a
member, or None, for each prompt. The inputs that it calls for are computed on demand. The engine keeps the members on one base in memory,
and has each member answer and score the prompts that are routed to it.
Shapes: N = prompts, K = members, L = layers, H = hidden size of the base.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from tasks.methods import Spec

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Write(Protocol):
    """Has a member of a bank generate text."""

    def __call__(
        self, member: str, places: Sequence[int], *, samples: int, temperature: float, max_new_tokens: int
    ) -> Sequence[Sequence[str]]:
        """Return texts for each of the prompts at these places: `samples` drawn ones, or for 1 the greedy one."""
        ...


@dataclass(frozen=True)
class Asked:
    """The prompts to route."""

    tasks: Sequence[str]
    """The task of each item according to its data; empty if unknown."""
    states: "Callable[[], NDArray[np.float32]]"
    """The mean of the base's hidden states over each prompt in some layers, (N, L, H); the last of them is the model's last."""
    write: "Write"
    """The function by which a member writes after prompts."""


@dataclass(frozen=True)
class Specialists:
    """The members of a bank."""

    names: tuple[str, ...]
    """The names of the members, which are their tasks."""
    means: "NDArray[np.float32]"
    """The mean of `Asked.states` over each member's training prompts, (K, L, H)."""
    variances: "NDArray[np.float32]"
    """The elementwise variance of these states, (K, L, H)."""


@dataclass(frozen=True, kw_only=True)
class RouterSpec(Spec):
    """The facts about a router."""

    knows_task: bool = False
    """True if the router uses the task that the data give an item. This is a control, since the task of a served prompt is unknown."""


@dataclass(frozen=True, kw_only=True)
class Router:
    """One way of choosing an adapter."""

    route: Callable[[Asked, Specialists, Any], Sequence[str | None]]
    """Returns the name of a member for each prompt, None for the base."""
