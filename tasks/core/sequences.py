"""Token sequences that train, and what an objective needs to encode examples in its own way."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from tasks.core.records import Example, Message

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
    columns: Mapping[str, Sequence[int | float]] = field(default_factory=dict)
    """Further values, one per token, by name. An objective declares the ones it reads."""
    auxiliary: tuple[Encoded, ...] = ()
    """Further sequences that belong to this one. The objective may read them; they are not trained by themselves."""
    number: int = 0
    """Its place among all sequences that train."""

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


@dataclass(frozen=True)
class Encoder:
    """The engine's functions for encoding an example, bound to a tokenizer. An objective's `encode` calls them."""

    is_plain: Callable[[Sequence[Message]], bool]
    """Return whether no message spells a control token of the model."""
    prompt: Callable[[Sequence[Message]], list[int]]
    """Return the tokens of a conversation up to where the assistant begins."""
    answer: Callable[[str], TokenizedText]
    """Return a response and its end of turn in tokens."""
    sequence: Callable[[Example, str, list[int], TokenizedText, Sequence[float] | None], Encoded]
    """Return one sequence of an example: its response, the tokens of its prompt, those of the response with its end of turn,
    and the loss weight of each character of the response; None means ones."""


@dataclass(frozen=True)
class Encoding:
    """The sequences made from one example."""

    sequences: Sequence[Encoded | None]
    """None stands for a sequence that cannot train: it is longer than a pack or holds a control token."""
    unused: int = 0
    """Rows of the objective's table that belong to the example and are in none of its sequences."""
