"""Objectives: the loss of a step from the losses of its tokens.

An objective's folder holds `SPEC = ObjectiveSpec(config=…)` and `METHOD = Objective(loss=…)`. `loss(nll, tokens, config)` returns this
pack's share of the loss: the engine sums over the packs of a step and divides by the step's trained tokens.

An objective that needs more than ids and weights declares `columns`, each with one value for each token. Its `encode` fills them, from
the rows of a `table` if it declares one, and may attach auxiliary sequences (a wrong program, a rejected answer), which
share the pack of the sequence that they belong to.
Shapes: N = trained tokens of the pack, S = its sequences, K = tasks, A = auxiliary sequences of the pack, M = their trained tokens.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from tasks.core.records import Example
from tasks.core.sequences import Column, Encoded, Encoder, Encoding
from tasks.core.training import Moment
from tasks.methods import TrainingSpec

if TYPE_CHECKING:
    from torch import Tensor


REFERENCE = Column("reference", fill=0.0)
"""The negative log-likelihood of a whole sequence, in nats, under the composed model before its first step; repeated for each token."""
DESIRABLE = Column("desirable", fill=1)
"""1 on the tokens of a desirable answer, 0 on those of an undesirable one."""
WHOLE_ANSWERS = "weighs no single token: its loss is of whole answers"
"""The `ObjectiveSpec.weighs` that several objectives share."""


@dataclass(frozen=True)
class Table:
    """Further rows of a stage, from which an objective encodes examples. Each row has its example's id in `example`."""

    name: str
    """The input of the stage: `faults` is its `inputs["faults"]`."""
    row: type
    """The record of a row."""
    unused: str
    """The message about rows that no sequence uses; it is preceded by their number."""


@dataclass(frozen=True)
class Answers:
    """Log-probabilities of whole answers."""

    log_p: "Tensor"
    """log p of each answer given its prompt, in nats, (S,)."""
    tokens: "Tensor"
    """Number of tokens of each answer, (S,)."""
    reference: "Tensor"
    """log p of each answer under the reference model, (S,); 0 if the objective has none."""

    @property
    def mean_log_p(self) -> "Tensor":
        """Return log p of each answer divided by its number of tokens, (S,)."""
        return self.log_p / self.tokens

    @property
    def log_ratio(self) -> "Tensor":
        """Return log p minus the reference's log p of each answer, (S,)."""
        return self.log_p - self.reference


@dataclass(frozen=True)
class Auxiliary:
    """The auxiliary sequences of a pack, under the present model."""

    nll: "Tensor"
    """Negative log-likelihood of each of their trained tokens in nats, (M,). Without gradient, unless the objective wants one."""
    segments: "Tensor"
    """Index of the auxiliary sequence that each token belongs to, (M,)."""
    owners: "Tensor"
    """Index, within the pack, of the sequence that each auxiliary sequence belongs to, (A,)."""
    with_auxiliary: "Tensor"
    """Number of sequences of the whole step that have auxiliary sequences, a scalar."""
    columns: "Mapping[str, Tensor]" = field(default_factory=dict)
    """Values of each token in the objective's columns, by name, (M,)."""


@dataclass(frozen=True)
class Tokens:
    """Properties of the N trained tokens, besides their losses."""

    weights: "Tensor"
    """Weight of each token, (N,)."""
    segments: "Tensor"
    """Index, within the pack, of the sequence that each token belongs to, (N,)."""
    tasks: "Tensor"
    """Index of each token's task, (N,)."""
    task_tokens: "Tensor"
    """Trained tokens of each task in the whole step, (K,)."""
    task_examples: "Tensor"
    """Examples of each task in the whole step, (K,)."""
    numbers: "Tensor"
    """Index of each sequence of the pack among all training sequences, (S,)."""
    columns: "Mapping[str, Tensor]" = field(default_factory=dict)
    """Values of each token in the objective's columns, by name, (N,)."""
    auxiliary: Auxiliary | None = None
    """None if the pack has no auxiliary sequences, or `Objective.reads_auxiliary` does not ask for them."""
    divergence: "Tensor | None" = None
    """The symmetric divergence of two looks at each token, in nats, (N,); None unless the objective reads a row twice."""
    state: "Mapping[str, Tensor]" = field(default_factory=dict)
    """The entries of `Moment.state` that `ObjectiveSpec.state` names, as `on_step` set them."""


@dataclass(frozen=True, kw_only=True)
class ObjectiveSpec(TrainingSpec):
    """The facts about an objective."""

    state: tuple[str, ...] = ()
    """Entries of `Moment.state`, lists of numbers, that `loss` reads."""
    columns: tuple[Column, ...] = ()
    """The columns that `loss` reads, of sequences and auxiliary sequences."""
    table: Table | None = None
    """The further rows that `Objective.encode` reads."""
    auxiliary_gradient: bool = False
    """True if the losses of auxiliary sequences have a gradient."""
    of_answers: bool = False
    """True if `loss` compares whole answers by sums of their tokens' losses. These losses are then not rounded to bf16."""
    reference: bool = False
    """True if `loss` reads the column `REFERENCE`, which the engine fills before the training starts."""
    needs: str = ""
    """The error message, after the objective's name, for data in which no example gives a sequence. Empty if every example gives one."""
    looks: Literal[1, 2] = 1
    """Number of looks at a row for one loss: 2 if `loss` reads the divergence of two looks at each token. The looks differ by dropout and
    by an adapter's random draws."""
    weighs: str = ""
    """A message, after "Objective NAME", about the use of token weights; empty if the loss multiplies each token's loss by its weight."""
    hits: bool = False
    """True if `loss` is given, instead of losses, 1.0 for each token that is the model's first choice and 0.0 for others: a score
    without gradient, for optimizers that need none."""


@dataclass(frozen=True, kw_only=True)
class Objective:
    """One way of weighing the losses of tokens."""

    loss: "Callable[[Tensor, Tokens, Any], Tensor]"
    on_step: Callable[[Moment, Any], None] | None = None
    """Called before every optimizer step."""
    encode: Callable[[Example, Sequence[Any], Encoder, int, Any], Encoding] | None = None
    """Return the sequences of an example, given its rows of `table`, the engine's encoder, the length of the longest sequence that a pack
    can hold, and the config. Without this function an example is one sequence, whose response is trained."""
    link: Callable[[Encoded, Encoded, int, Any], Encoded] | None = None
    """Return a training sequence with what it needs from a sequence of another example, given both, the length of the longest sequence that
    a pack and the model's context can hold, and the config. The sequence's own tokens do not change."""
    reads_auxiliary: Callable[[Any], bool] | None = None
    """Return whether, with this config, `loss` reads the auxiliary sequences in each step."""
    reward: "Callable[[Answers, Any], Tensor] | None" = None
    """Return the reward that the objective, with this config, gives each answer, (S,). It is measured on held-out judged answers during
    the training. If it is set, `encode` either attaches an answer's worse answers as auxiliary sequences, or marks the answer by the
    column `DESIRABLE`."""
    unsteady: Callable[[Any], str] | None = None
    """Return why, with this config, two passes over one step have different weights, and the remedy; empty if the weights are equal.
    Optimizers without gradient compare two passes."""
