"""The steps of MeZO, made by `mezo` with the whole model in memory and by `zo2` block by block. Equations are in the card of `mezo`."""

import math
import random
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypedDict, cast

import torch
from torch import Tensor
from torch import distributed as dist


class Move(TypedDict):
    """A complete description of a step: it determines the weights after the step from those before it."""

    seeds: list[int]
    """The seed of each direction z."""
    gradients: list[float]
    """The projected gradient g along each direction."""
    rates: list[float]
    """The learning rate of each group."""
    frozen: list[int]
    """Indices of the tensors that did not take part, counted over all groups."""


class Mezo(torch.optim.Optimizer):
    """Zeroth-order SGD in place. Its state consists of numbers only: steps made, steps skipped, and the log of its moves."""

    def __init__(self, groups: list[dict[str, Any]], eps: float, directions: int, seed: int) -> None:
        super().__init__(groups, {"lr": 0.0, "weight_decay": 0.0})
        self._eps, self._directions, self._seed = eps, directions, seed
        self._sums: list[float] = []  # g of the packs of this step, along each direction

    @property
    def course(self) -> dict[str, Any]:
        """Return `step`, `skipped` and `log`: the optimizer's state, which every checkpoint holds."""
        return cast("dict[Any, Any]", self.state).setdefault("course", {"step": 0, "skipped": 0, "log": []})

    @torch.no_grad()
    def estimate(self, loss: Callable[[], Tensor | float]) -> Tensor:
        """Add one pack's projected gradient to that of the step, and return the mean of `loss` around the weights.

        Afterwards the weights have their former values, up to rounding.
        """
        frozen = self._frozen()
        seen: list[Tensor] = []
        self._sums = self._sums or [0.0] * self._directions
        for direction in range(self._directions):
            plus, minus = self._both_sides(step_seed(self._seed, self.course["step"], direction), frozen, loss)
            self._sums[direction] += (plus.item() - minus.item()) / (2 * self._eps)
            seen += [plus, minus]
        return torch.stack(seen).mean()

    def _both_sides(
        self, seed: int, frozen: Sequence[int], loss: Callable[[], Tensor | float]
    ) -> tuple[Tensor, Tensor]:
        """Return the loss at theta + eps z and at theta - eps z."""
        places = range(len(self._tensors()))
        self._perturb(seed, self._eps, places, frozen)
        plus = torch.as_tensor(loss())
        self._perturb(seed, -2 * self._eps, places, frozen)
        minus = torch.as_tensor(loss())
        self._perturb(seed, self._eps, places, frozen)
        return plus, minus

    @torch.no_grad()
    def step(self, closure: Callable[[], Tensor | float] | None = None) -> Any:
        """Move along the directions of this step; skip the step if a gradient is not finite.

        A `closure`, which may return any score, is estimated first, and its value is returned.
        """
        value = self.estimate(closure) if closure else None
        if not self._sums:
            raise ValueError("MeZO steps by what `estimate` found: call it first, or hand step() a closure.")
        gradients, self._sums = self._over_processes(self._sums), []
        step = self.course["step"]
        self.course["step"] += 1
        if not all(map(math.isfinite, gradients)):
            self.course["skipped"] += 1
            return value
        move = Move(
            seeds=[step_seed(self._seed, step, direction) for direction in range(self._directions)],
            gradients=gradients,
            rates=[float(group["lr"]) for group in self.param_groups],
            frozen=self._frozen(),
        )
        self._make(move)
        self.course["log"].append(move)
        return value

    def _make(self, move: Move) -> None:
        """Make a step of the training."""
        self.apply(move)

    @torch.no_grad()
    def apply(self, move: Move, places: Iterable[int] | None = None) -> None:
        """Apply theta <- theta - lr (g z + wd theta), with g z averaged over directions, to all tensors or to those in `places`."""
        tensors = self._tensors()
        places = range(len(tensors)) if places is None else list(places)
        for place in places:
            number, tensor = tensors[place]
            decay = move["rates"][number] * self.param_groups[number]["weight_decay"]
            if decay and place not in move["frozen"]:
                tensor.mul_(1 - decay)
        for seed, gradient in zip(move["seeds"], move["gradients"], strict=True):
            share = gradient / len(move["seeds"])
            self._add(seed, [-rate * share for rate in move["rates"]], places, move["frozen"])

    def _perturb(self, seed: int, scale: float, places: Iterable[int], frozen: Sequence[int]) -> None:
        """Add `scale` times z to the tensors in `places` that take part."""
        self._add(seed, [scale] * len(self.param_groups), places, frozen)

    def _add(self, seed: int, scales: Sequence[float], places: Iterable[int], frozen: Sequence[int]) -> None:
        """Add `scales[group]` times z to the tensors in `places` that take part.

        z has no name, so that two of them are never in memory at a time.
        """
        tensors = self._tensors()
        for place in places:
            if place in frozen:
                continue
            number, tensor = tensors[place]
            tensor.add_(draw(seed, place, tensor), alpha=scales[number])

    def _tensors(self) -> list[tuple[int, Tensor]]:
        """Return every tensor with the index of its group."""
        return [(number, tensor) for number, group in enumerate(self.param_groups) for tensor in group["params"]]

    def _frozen(self) -> list[int]:
        """Return the places of the tensors that a selector has frozen for now."""
        return [place for place, (_, tensor) in enumerate(self._tensors()) if not tensor.requires_grad]

    def _over_processes(self, gradients: list[float]) -> list[float]:
        """Return the mean over the processes of a data-parallel training, all of which draw the same z."""
        if not (dist.is_available() and dist.is_initialized()):
            return gradients
        device = self.param_groups[0]["params"][0].device
        shared = torch.tensor(gradients, dtype=torch.float64, device=device)
        dist.all_reduce(shared)
        return (shared / dist.get_world_size()).tolist()


def draw(seed: int, place: int, tensor: Tensor) -> Tensor:
    """Return the part of z for the tensor in this place. It depends on seed and place alone, so no other part need be drawn."""
    generator = torch.Generator(tensor.device).manual_seed(place_seed(seed, place))
    return torch.randn(tensor.shape, generator=generator, device=tensor.device, dtype=tensor.dtype)


def place_seed(seed: int, place: int) -> int:
    """Return the seed for a tensor's part of the direction with this seed."""
    return random.Random(f"{seed}/{place}").getrandbits(63)


def step_seed(seed: int, step: int, direction: int) -> int:
    """Return the seed of a direction. It depends on these three alone, so a resumed run draws the same as an uninterrupted one."""
    return random.Random(f"{seed}/{step}/{direction}").getrandbits(63)
