"""Sparsifiers: what a step leaves out of its passes, so that less is kept for going backward.

A sparsifier's folder holds `SPEC = SparsifierSpec(config=…)` and `METHOD = Sparsifier(sparsify=…, restore=…)`. `sparsify(model, config,
seed)` is called when all that trains is in place and chosen. It changes how passes of a training are computed, and nothing else: in evaluation
mode, in which models are scored and write, the function stays that of the model without it. No parameter is added, moved or renamed, and `restore(model)`
leaves the model as it was.
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
    """One way of leaving something out of a training's passes."""

    sparsify: "Callable[[nn.Module, Any, int], None]"
    restore: "Callable[[nn.Module], None]"
    on_step: Callable[[Moment, Any], None] | None = None
    """Called before every optimizer step, the first of a resumed run included."""
    shrunk: Callable[[Any, float], Any] | None = None
    """The config that does to a row of so many times the tokens of a pack what `config` does to the pack: memory is counted on short rows.
    None where the length of a row changes nothing."""
