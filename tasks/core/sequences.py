"""Token sequences that train, and what an objective needs to encode examples in its own way."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from tasks.core.records import Example

IGNORE = -100
"""The label of a position that trains nothing, as everywhere in transformers."""


@dataclass(frozen=True)
class Column:
    """A value per token that an objective reads beside the token's id and weight."""

    name: str
    fill: int | float = 0
    """The value of tokens whose sequence lacks the column. Its type is that of the column: int64 or float32."""
    missing: str = ""
    """Error message, after the objective's name, if no sequence that trains has the column. Empty if it can do without."""


@dataclass(frozen=True)
class Encoded:
    """One sequence. `weights[i]` is the loss weight of predicting `ids[i]`; 0 marks context that trains nothing."""

    id: str
    ids: list[int]
    weights: list[float]
    size: int = 0
    """UTF-8 bytes of the text that is trained."""
    task: str = ""
    domain: str = ""
    """The part of the data that its example or document comes from."""
    columns: Mapping[str, Sequence[int | float]] = field(default_factory=dict)
    """Further values, one per token, by name. An objective declares the ones it reads."""
    auxiliary: tuple[Encoded, ...] = ()
    """Further sequences that belong to this one. The objective may read them; they are not trained by themselves."""
    number: int = 0
    """Its place among all sequences that train."""
    passes: float = 1.0
    """Times it is seen in an epoch: with 0.5 in every other one, on average."""

    @property
    def num_trained(self) -> int:
        """Number of tokens that are trained: those of a weight above 0. The first token is predicted from nothing."""
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
    """A conversation in tokens: its last answer, and all that the model has read when it begins to write it."""

    context: list[int]
    context_weights: list[float]
    """The loss weight of each token of the context: 1 in earlier answers that train, else 0."""
    answer: TokenizedText
    """The last answer with its end of turn. Offsets count from its first character, so text that the template puts before it is below 0."""
    size: int
    """UTF-8 bytes of the answers that train."""

    def without_earlier_answers(self) -> Conversation:
        """Return the conversation with its last answer alone to train."""
        return replace(self, context_weights=[0.0] * len(self.context))


@dataclass(frozen=True)
class Encoder:
    """The engine's functions for encoding an example, bound to a tokenizer. An objective's `encode` calls them."""

    is_plain: Callable[[Example], bool]
    """Return whether no text of the example spells a control token of the model."""
    conversation: Callable[[Example], Conversation]
    """Return the example's conversation as the model's chat template writes it."""
    sequence: Callable[[Example, Conversation], Encoded]
    """Return one sequence: the conversation, whose last answer has the weights of the example's characters."""


@dataclass(frozen=True)
class Encoding:
    """The sequences made from one example."""

    sequences: Sequence[Encoded | None]
    """None stands for a sequence that cannot train: it is longer than a pack or holds a control token."""
    unused: int = 0
    """Rows of the objective's table that belong to the example and are in none of its sequences."""
