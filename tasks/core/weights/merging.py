"""Merge the changes that several trainings made to the weights of one base.

tau_e is the change of a weight by expert e, and w_e the weight of the expert. The merged model is the base plus the result:

    linear            sum w_e tau_e / sum w_e: the weighted mean of the models
    task_arithmetic   sum w_e tau_e; a negative weight removes an expert's skill (Ilharco et al. 2022,
                      https://arxiv.org/abs/2212.04089)
    slerp             the point at t = w_2 / (w_1 + w_2) of the arc from tau_1 to tau_2, which keeps lengths; a mean shortens them
    magnitude_prune   task_arithmetic of the largest changes
    ties              of the largest changes, the mean of those that have the sign of their sum (Yadav et al. 2023,
                      https://arxiv.org/abs/2306.01708)
    dare_linear       task_arithmetic of randomly drawn changes, divided by the share that is drawn (Yu et al. 2023,
                      https://arxiv.org/abs/2311.03099)
    dare_ties         the same draw, merged by sign like ties

All except linear and slerp are functions of peft. `density` is the share of entries that is kept in each tensor, as in peft; the paper of TIES
counts it over all tensors of an expert together. slerp interpolates the changes, not the weights: after tuning, weights differ so little that an
arc between them is a line.
"""

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from peft.utils import merge_utils
from torch import Tensor

DENSITIES: Mapping[str, float | None] = {
    "linear": None,
    "task_arithmetic": None,
    "slerp": None,
    "magnitude_prune": 0.2,
    "ties": 0.2,
    "dare_linear": 0.1,
    "dare_ties": 0.1,
}
"""The methods, with the density that their papers recommend (magnitude_prune: that of TIES); None for methods without one."""
PARALLEL = 0.9995
"""Cosine above which an arc is treated as a line."""

NO_SUM = 1e-6
"""A sum of weights counts as 0 up to this share of the sum of their absolute values, which covers rounding errors as in 0.1 + 0.2 - 0.3."""


@dataclass(frozen=True)
class Merge:
    """A merging method with its settings. Raises ValueError for an unknown method, and for a density that the method does not use."""

    method: str = "linear"
    density: float | None = None
    """The share of entries that is kept; None for the default of the method."""
    seed: int = 0
    """Seed of the draws of DARE."""

    def __post_init__(self) -> None:
        """Check the settings, and replace a missing density by the method's default."""
        if self.method not in DENSITIES:
            raise ValueError(f"There is no method of merging {self.method!r}. There are: {', '.join(DENSITIES)}.")
        usual = DENSITIES[self.method]
        if self.density is None:
            object.__setattr__(self, "density", usual)
        elif usual is None:
            able = [name for name, density in DENSITIES.items() if density is not None]
            raise ValueError(
                f"{self.method} keeps every change, so it has no density. Methods with one: {', '.join(able)}."
            )
        elif not 0 < self.density <= 1:
            raise ValueError(f"A density of {self.density:g} is no share: take more than 0 and at most 1.")

    def check(self, weights: Sequence[float]) -> None:
        """Raise ValueError for weights of experts with which the method cannot merge."""
        if self.method == "slerp" and (len(weights) != 2 or min(weights) < 0 or sum(weights) == 0):
            raise ValueError(
                "slerp goes from one expert to another: give two, with weights of at least 0 and not both 0."
            )
        if self.method == "linear" and abs(sum(weights)) <= NO_SUM * sum(map(abs, weights)):
            raise ValueError("linear divides by the sum of the weights, which is 0. Use --method task_arithmetic.")

    def combine(self, changes: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
        """Return the merged change of one tensor. DARE draws from torch's default generator."""
        factors = torch.tensor(weights, dtype=changes[0].dtype)
        tensors, density = list(changes), self.density or 1.0
        with warnings.catch_warnings(action="ignore"):  # the function of peft without pruning
            match self.method:
                case "linear":
                    return merge_utils.task_arithmetic(tensors, factors / factors.sum())
                case "slerp":
                    return slerp(tensors[0], tensors[1], weights[1] / sum(weights))
                case "magnitude_prune":
                    return merge_utils.magnitude_prune(tensors, factors, density)
                case "ties":
                    return merge_utils.ties(tensors, factors, density)
                case "dare_linear":
                    return merge_utils.dare_linear(tensors, factors, density)
                case "dare_ties":
                    return merge_utils.dare_ties(tensors, factors, density)
            return merge_utils.task_arithmetic(tensors, factors)


def slerp(start: Tensor, end: Tensor, t: float) -> Tensor:
    """Return the point at `t`, from 0 to 1, of the arc from one tensor to another, each taken as one vector.

    It is (sin((1 - t) theta) start + sin(t theta) end) / sin theta, where theta is the angle between them (Shoemake 1985). If the two are
    parallel, or one is 0, it is the point of the line.
    """
    lengths = float(start.double().norm() * end.double().norm())
    cosine = float((start.double() * end.double()).sum()) / lengths if lengths else 1.0
    if abs(cosine) > PARALLEL:
        return (1 - t) * start + t * end
    theta = math.acos(cosine)
    return (math.sin((1 - t) * theta) * start + math.sin(t * theta) * end) / math.sin(theta)
