"""Describe the first batch of a training as its model sees it: tokens, which of them have a loss, and their weights."""

from collections.abc import Sequence
from typing import Any

from tasks.core.sequences import Encoded
from tasks.engine.packing import Pack

MOST = 1_024
"""The most tokens that are described; further ones are only counted."""


def describe(packs: Sequence[Pack], tokenizer: Any) -> dict[str, Any]:
    """Return the batch for JSON: its size, and its first sequences token by token; a weight of 0 is context without a loss."""
    sequences = [sequence for pack in packs for sequence in pack.sequences]
    return {
        "packs": len(packs),
        "tokens": sum(map(len, sequences)),
        "trained": sum(sequence.num_trained for sequence in sequences),
        "sequences": _described(sequences, tokenizer),
    }


def _described(sequences: Sequence[Encoded], tokenizer: Any) -> list[dict[str, Any]]:
    described, room = [], MOST
    for sequence in sequences:
        ids = sequence.ids[:room]
        # The first token has no loss, whatever its weight: nothing comes before it to predict it from.
        weights = [0.0, *(round(float(weight), 4) for weight in sequence.weights[1 : len(ids)])]
        texts = [str(tokenizer.decode([token])) for token in ids]
        described.append({"id": sequence.id, "tokens": texts, "weights": weights})
        room -= len(ids)
        if room <= 0:
            break
    return described
