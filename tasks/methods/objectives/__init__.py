"""Objectives: the loss of a step from the losses of its tokens.

An objective's folder holds `SPEC = ObjectiveSpec(config=…)` and `METHOD = Objective(loss=…)`. `loss(nll, tokens, config)` is this
pack's share: the engine adds up the packs of a step and divides by the step's trained tokens.
Shapes: N = trained tokens of the pack, S = its sequences, K = tasks, M = trained tokens of the pack's contrasts.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tasks.core.training import Moment
from tasks.methods import TrainingSpec

if TYPE_CHECKING:
    from torch import Tensor

    from tasks.core.marks import Marking


@dataclass(frozen=True)
class Contrasts:
    """The wrong counterparts of some of the pack's sequences, as the model sees them now. No gradient comes from them."""

    nll: "Tensor"
    """Negative log-likelihood of each of their tokens in nats, (M,)."""
    marks: "Tensor"
    """As `Tokens.marks`, (M,)."""
    segments: "Tensor"
    """Number of the sequence within the pack that each token is set against, (M,)."""


@dataclass(frozen=True)
class Tokens:
    """What is known of the N trained tokens beside their losses."""

    weights: "Tensor"
    """Weight of each token, (N,)."""
    segments: "Tensor"
    """Number of the example within the pack that each token belongs to, (N,)."""
    tasks: "Tensor"
    """Number of each token's task, (N,)."""
    task_tokens: "Tensor"
    """Trained tokens of each task in the whole step, (K,)."""
    task_examples: "Tensor"
    """Examples of each task in the whole step, (K,)."""
    marks: "Tensor"
    """What each token is to the fault of its program, flags of `tasks.core.marks`, (N,)."""
    numbers: "Tensor"
    """Number of each sequence of the pack among all that train, (S,)."""
    contrasts: Contrasts | None = None
    told: "Mapping[str, Tensor]" = field(default_factory=dict)
    """What `on_step` has left in `Moment.state` under the names of `ObjectiveSpec.tells`."""


@dataclass(frozen=True, kw_only=True)
class ObjectiveSpec(TrainingSpec):
    """The facts about an objective."""

    tells: tuple[str, ...] = ()
    """Entries of its state, lists of numbers, that `loss` is told."""
    hits: bool = False
    """True where `loss` is given, in place of the losses, 1.0 for each token that is the model's first choice and 0.0 for others:
    a score without gradient, for optimizers that need none."""


@dataclass(frozen=True, kw_only=True)
class Objective:
    """One way of weighing the losses of tokens."""

    loss: "Callable[[Tensor, Tokens, Any], Tensor]"
    on_step: Callable[[Moment, Any], None] | None = None
    """Called before every optimizer step."""
    contrasts: Callable[[Any], bool] | None = None
    """Whether, with these settings, `loss` looks at the wrong counterparts of a pack's programs."""
    marks: "Callable[[Any], Marking] | None" = None
    """How, with these settings, the tokens are marked that it is nothing without."""
