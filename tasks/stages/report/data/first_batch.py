"""The first batch of a training as the model saw it: its tokens and the weight of each in the loss."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tasks.core.text.sensitive import search

HIDDEN = "•"
"""Shown in place of a token of a secret."""


@dataclass(frozen=True)
class Token:
    """A token and the weight of its prediction in the loss; 0 for context, which is not trained on."""

    text: str
    weight: float


@dataclass(frozen=True)
class FirstBatch:
    """The beginning of the batch, and the size of the whole batch."""

    sequences: Sequence[tuple[str, Sequence[Token]]]
    """The id of each example or text, and its tokens."""
    packs: int
    tokens: int
    trained: int
    objective: str = ""
    """A sentence about the objective's use of the weights; empty if it only multiplies each loss by its weight."""

    @property
    def shown(self) -> int:
        """Return the number of tokens in `sequences`."""
        return sum(len(tokens) for _, tokens in self.sequences)

    @property
    def weights(self) -> list[float]:
        """Return the different weights above 0 in `sequences`, the smallest first."""
        return sorted({token.weight for _, tokens in self.sequences for token in tokens if token.weight > 0})


def read(course: Mapping[str, Any]) -> FirstBatch | None:
    """Return the first batch in the contents of a `training.json`; None if it holds none."""
    kept = course.get("first_batch")
    if not kept:
        return None
    sequences = [(one["id"], _tokens(one["tokens"], one["weights"])) for one in kept["sequences"]]
    weighs, name = kept.get("weighs"), course.get("composition", {}).get("objective")
    objective = f"Objective {name} {weighs}." if weighs else ""
    return FirstBatch(sequences, kept["packs"], kept["tokens"], kept["trained"], objective)


def _tokens(texts: Sequence[str], weights: Sequence[float]) -> list[Token]:
    """Return the tokens. A token that overlaps a secret is hidden."""
    spans = search.spans("".join(texts), search.SECRETS)
    tokens, start = [], 0
    for text, weight in zip(texts, weights, strict=True):
        end = start + len(text)
        is_secret = any(span.start < end and start < span.end for span in spans)
        tokens.append(Token(HIDDEN if is_secret else text, weight))
        start = end
    return tokens
