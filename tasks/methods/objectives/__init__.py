"""Objectives: the loss of a step from the losses of its tokens.

An objective's folder holds `SPEC = ObjectiveSpec(config=…)` and `METHOD = Objective(loss=…)`. `loss(nll, tokens, config)` is this
pack's share: the engine adds up the packs of a step and divides by the step's trained tokens.

An objective that needs more than ids and weights declares `columns`, one value per token each, and has an `encode` that fills them,
from the rows of a `table` if it declares one. Its `encode` may attach auxiliary sequences (a wrong program, a rejected answer), which
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
"""The negative log-likelihood of a whole sequence in nats under the composed model before its first step, on each of its tokens."""
DESIRABLE = Column("desirable", fill=1)
"""1 on the tokens of a desirable answer, 0 on those of another."""
WHOLE_ANSWERS = "weighs no single token: its loss is of whole answers"
"""Is `ObjectiveSpec.weighs` of several."""


@dataclass(frozen=True)
class Table:
    """Further rows of a stage that an objective encodes examples with. Each row names its example's id in `example`."""

    name: str
    """The input of the stage: `faults` is its `inputs["faults"]`."""
    row: type
    """The record of a row."""
    unused: str
    """Message about rows that no sequence holds; their number is put before it."""


@dataclass(frozen=True)
class Answers:
    """Log-probabilities of some answers as wholes."""

    log_p: "Tensor"
    """log p of each answer given its prompt, in nats, (S,)."""
    tokens: "Tensor"
    """Tokens of each, (S,)."""
    reference: "Tensor"
    """log p of each under the reference model, (S,); 0 where the objective has none."""

    @property
    def mean_log_p(self) -> "Tensor":
        """log p of each answer for each of its tokens, (S,)."""
        return self.log_p / self.tokens

    @property
    def log_ratio(self) -> "Tensor":
        """log p - log p of the reference, of each answer, (S,)."""
        return self.log_p - self.reference


@dataclass(frozen=True)
class Auxiliary:
    """The auxiliary sequences of a pack, as the model sees them now."""

    nll: "Tensor"
    """Negative log-likelihood of each of their trained tokens in nats, (M,). Without gradient, unless the objective wants one."""
    segments: "Tensor"
    """Number of the auxiliary sequence that each token belongs to, (M,)."""
    owners: "Tensor"
    """Number within the pack of the sequence that each auxiliary sequence belongs to, (A,)."""
    with_auxiliary: "Tensor"
    """Sequences of the whole step that have auxiliary sequences, a scalar."""
    columns: "Mapping[str, Tensor]" = field(default_factory=dict)
    """Values of each token in the objective's columns, by name, (M,)."""


@dataclass(frozen=True)
class Tokens:
    """Properties of the N trained tokens beside their losses."""

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
    numbers: "Tensor"
    """Number of each sequence of the pack among all that train, (S,)."""
    columns: "Mapping[str, Tensor]" = field(default_factory=dict)
    """Values of each token in the objective's columns, by name, (N,)."""
    auxiliary: Auxiliary | None = None
    """None if the pack has no auxiliary sequences, or `Objective.reads_auxiliary` does not ask for them."""
    divergence: "Tensor | None" = None
    """The symmetric divergence of two looks at each token in nats, (N,), where the objective has a row read twice."""
    state: "Mapping[str, Tensor]" = field(default_factory=dict)
    """The entries of `Moment.state` that `ObjectiveSpec.state` names, as `on_step` has left them."""


@dataclass(frozen=True, kw_only=True)
class ObjectiveSpec(TrainingSpec):
    """The facts about an objective."""

    state: tuple[str, ...] = ()
    """Entries of `Moment.state`, lists of numbers, that `loss` reads."""
    columns: tuple[Column, ...] = ()
    """The columns that `loss` reads, of sequences and auxiliary sequences."""
    table: Table | None = None
    """The further rows that `Objective.encode` takes."""
    auxiliary_gradient: bool = False
    """True if the losses of auxiliary sequences have a gradient."""
    of_answers: bool = False
    """True where `loss` compares whole answers by sums of their tokens' losses, which are not rounded to bf16 then."""
    reference: bool = False
    """True where `loss` reads the column `REFERENCE`: the engine fills it before the training starts."""
    needs: str = ""
    """Error message, after the objective's name, if no example gives it a sequence. Empty if every example does."""
    looks: Literal[1, 2] = 1
    """Times that a row is read for one loss: 2 where `loss` reads how far two looks at a token are apart. Dropout and an adapter's draws
    are what makes them differ."""
    weighs: str = ""
    """What the loss makes of the weights of tokens, after "Objective NAME", where that is more than to multiply each token's loss by its own."""
    hits: bool = False
    """True where `loss` is given, in place of the losses, 1.0 for each token that is the model's first choice and 0.0 for others:
    a score without gradient, for optimizers that need none."""


@dataclass(frozen=True, kw_only=True)
class Objective:
    """One way of weighing the losses of tokens."""

    loss: "Callable[[Tensor, Tokens, Any], Tensor]"
    on_step: Callable[[Moment, Any], None] | None = None
    """Called before every optimizer step."""
    encode: Callable[[Example, Sequence[Any], Encoder, int, Any], Encoding] | None = None
    """Return the sequences of an example, given its rows of `table`, the engine's encoder, the longest sequence that a pack can
    hold, and the config. Without it an example is one sequence, and its response is trained."""
    link: Callable[[Encoded, Encoded, int, Any], Encoded] | None = None
    """Return a sequence that trains with what it needs of one of another example, given the longest sequence that a pack and the model's
    context can hold, and the config. Its own tokens stay as they are."""
    reads_auxiliary: Callable[[Any], bool] | None = None
    """Return whether, with this config, `loss` reads the auxiliary sequences in each step."""
    reward: "Callable[[Answers, Any], Tensor] | None" = None
    """Return the reward that the objective gives each answer, (S,), with the config: it is measured on held-out judged answers during
    the training. Where it is set, `encode` puts an answer's worse ones beside it as auxiliary sequences, or says by the column
    `DESIRABLE` which it is."""
    unsteady: Callable[[Any], str] | None = None
    """Return why, with this config, two passes over one step are not weighed alike, and what would do; empty if they are.
    Optimizers without gradient compare two passes."""
