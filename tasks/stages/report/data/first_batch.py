"""The first batch of a training as the model saw it: its tokens, which of them have a loss, and how much each weighs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tasks.core.text.sensitive import search

HIDDEN = "•"
"""Stands for a token of a secret."""


@dataclass(frozen=True)
class Token:
    """A token and the weight of its prediction in the loss; 0 marks context that trains nothing."""

    text: str
    weight: float


@dataclass(frozen=True)
class FirstBatch:
    """The start of the batch, and the size of all of it."""

    sequences: Sequence[tuple[str, Sequence[Token]]]
    """The id of each example or text, and its tokens."""
    packs: int
    tokens: int
    trained: int
    objective: str = ""
    """What the objective makes of the weights, in a sentence; empty where it multiplies each loss by its weight and does no more."""

    @property
    def shown(self) -> int:
        """Return the number of tokens that are shown."""
        return sum(len(tokens) for _, tokens in self.sequences)

    @property
    def weights(self) -> list[float]:
        """Return the different weights above 0 of what is shown, the smallest first."""
        return sorted({token.weight for _, tokens in self.sequences for token in tokens if token.weight > 0})


def read(course: Mapping[str, Any]) -> FirstBatch | None:
    """Return the first batch that `training.json` holds; None where it holds none."""
    kept = course.get("first_batch")
    if not kept:
        return None
    sequences = [(one["id"], _tokens(one["tokens"], one["weights"])) for one in kept["sequences"]]
    weighs, name = kept.get("weighs"), course.get("composition", {}).get("objective")
    objective = f"Objective {name} {weighs}." if weighs else ""
    return FirstBatch(sequences, kept["packs"], kept["tokens"], kept["trained"], objective)


def _tokens(texts: Sequence[str], weights: Sequence[float]) -> list[Token]:
    """Return the tokens; one that overlaps a secret is hidden."""
    spans = search.spans("".join(texts), search.SECRETS)
    tokens, start = [], 0
    for text, weight in zip(texts, weights, strict=True):
        end = start + len(text)
        is_secret = any(span.start < end and start < span.end for span in spans)
        tokens.append(Token(HIDDEN if is_secret else text, weight))
        start = end
    return tokens
