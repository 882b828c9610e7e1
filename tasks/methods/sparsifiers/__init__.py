"""Sparsifiers: leave parts out of training passes, so that less is saved for the backward pass.

A sparsifier's folder holds `SPEC = SparsifierSpec(config=…)` and `METHOD = Sparsifier(sparsify=…, restore=…)`. `sparsify(model, config,
seed)` is called after adapters are attached and trained weights chosen. It changes only the computation of training passes: in evaluation
mode, in which models are scored and generate, the function is that of the model without it. No parameter is added, moved or renamed, and
`restore(model)` restores the model.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tasks.core.training import Moment
from tasks.methods import TrainingSpec

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True, kw_only=True)
class SparsifierSpec(TrainingSpec):
    """The facts about a sparsifier."""


@dataclass(frozen=True, kw_only=True)
class Sparsifier:
    """One way of leaving parts out of training passes."""

    sparsify: "Callable[[nn.Module, Any, int], None]"
    restore: "Callable[[nn.Module], None]"
    on_step: Callable[[Moment, Any], None] | None = None
    """Called before every optimizer step, including the first one of a resumed run."""
    shrunk: Callable[[Any, float], Any] | None = None
    """Returns a config that has, on a row shorter than a pack by the given factor, the effect of `config` on the pack; memory is counted on
    such rows. None if the effect does not depend on the length of a row."""
