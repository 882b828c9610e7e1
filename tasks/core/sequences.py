"""Token sequences for training, and the interface by which an objective encodes examples."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from tasks.core.records import Example

IGNORE = -100
"""The label of positions that are not trained on, the same as in transformers."""


@dataclass(frozen=True)
class Column:
    """A further value of each token, which an objective reads beside id and weight."""

    name: str
    fill: int | float = 0
    """The value of tokens whose sequence lacks the column. Its type is the type of the column: int64 or float32."""
    missing: str = ""
    """Error message (after the objective's name) if no training sequence has the column. Empty if the column is optional."""


@dataclass(frozen=True)
class Encoded:
    """One sequence. `weights[i]` is the loss weight of predicting `ids[i]`; it is 0 for context."""

    id: str
    ids: list[int]
    weights: list[float]
    size: int = 0
    """UTF-8 bytes of the trained text."""
    task: str = ""
    domain: str = ""
    """The part of the data from which its example or document comes."""
    columns: Mapping[str, Sequence[int | float]] = field(default_factory=dict)
    """Further values, one per token, by name. An objective declares the ones it reads."""
    auxiliary: tuple[Encoded, ...] = ()
    """Further sequences that belong to this one. The objective may read them; they are not trained by themselves."""
    number: int = 0
    """Its index among all training sequences."""
    passes: float = 1.0
    """How often it is seen in an epoch; with 0.5, in every other epoch on average."""

    @property
    def num_trained(self) -> int:
        """Return the number of trained tokens, those with a weight above 0. The first token is never one, because nothing precedes it."""
        return sum(weight > 0 for weight in self.weights[1:])

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True, slots=True)
class TokenizedText:
    """A text in tokens: their ids, and the characters of each as (start, end)."""

    ids: list[int]
    offsets: Sequence[tuple[int, int]]


@dataclass(frozen=True, slots=True)
class Conversation:
    """A conversation in tokens: its last answer, and the context before it."""

    context: list[int]
    context_weights: list[float]
    """The loss weight of each token of the context: 1 in earlier answers that are trained on, else 0."""
    answer: TokenizedText
    """The last answer with its end of turn. Offsets count from its first character, so they are negative in text that the template puts before it."""
    size: int
    """UTF-8 bytes of the answers that are trained on."""

    def without_earlier_answers(self) -> Conversation:
        """Return the conversation with only its last answer trained on."""
        return replace(self, context_weights=[0.0] * len(self.context))


@dataclass(frozen=True)
class Encoder:
    """The engine's functions for encoding an example, bound to a tokenizer. An objective's `encode` calls them."""

    is_plain: Callable[[Example], bool]
    """Return True if no text of the example contains a control token of the model."""
    conversation: Callable[[Example], Conversation]
    """Return the example's conversation in the form of the model's chat template."""
    sequence: Callable[[Example, Conversation], Encoded]
    """Return the conversation as one sequence, with the example's character weights in its last answer."""


@dataclass(frozen=True)
class Encoding:
    """The sequences made from one example."""

    sequences: Sequence[Encoded | None]
    """None stands for a sequence that cannot be trained on, because it is longer than a pack or contains a control token."""
    unused: int = 0
    """Number of rows of the objective's table that belong to the example and are in none of its sequences."""
