"""Routers: the adapter of a bank that a prompt goes to, or none of them, which is the base.

A router's folder holds `SPEC = RouterSpec(config=…)` and `METHOD = Router(route=…)`. `route(asked, bank, config)` returns the name of a
member, or None, for each prompt. What it asks for is computed when it is asked for. The engine holds the members on one base in memory,
and has each write and score what goes to it.
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
    """Has a member of a bank write."""

    def __call__(
        self, member: str, places: Sequence[int], *, samples: int, temperature: float, max_new_tokens: int
    ) -> Sequence[Sequence[str]]:
        """Return texts for each of the prompts at these places: so many samples, or of one the likeliest."""
        ...


@dataclass(frozen=True)
class Asked:
    """The prompts that are to be routed."""

    tasks: Sequence[str]
    """The task of each item, as its data have it; empty where none is known."""
    states: "Callable[[], NDArray[np.float32]]"
    """The mean of the base's hidden states over each prompt in some layers, (N, L, H); the last of them is the model's last."""
    write: "Write"
    """What a member writes after prompts."""


@dataclass(frozen=True)
class Specialists:
    """The members of a bank."""

    names: tuple[str, ...]
    """Their tasks."""
    means: "NDArray[np.float32]"
    """The mean of `Asked.states` over training prompts of each, (K, L, H)."""
    variances: "NDArray[np.float32]"
    """The variance of each number of them, (K, L, H)."""


@dataclass(frozen=True, kw_only=True)
class RouterSpec(Spec):
    """The facts about a router."""

    knows_task: bool = False
    """True where it goes by the task that the data give an item, which nobody knows of a prompt that is served: a control."""


@dataclass(frozen=True, kw_only=True)
class Router:
    """One way of choosing an adapter."""

    route: Callable[[Asked, Specialists, Any], Sequence[str | None]]
    """The name of a member for each prompt, None for the base."""
