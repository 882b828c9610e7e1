"""The context of a model: the most tokens of one text that it reads."""

import math
import sys
from collections.abc import Iterable, Sequence
from typing import Any

from tasks.core.sequences import Encoded
from tasks.engine.sequences import listed


def context(model: Any) -> int | None:
    """Return the most tokens of one text that a model reads; None where its config sets no limit."""
    return getattr(model.config.get_text_config(), "max_position_embeddings", None)


def longest(model: Any) -> int:
    """Return the most tokens of one text that a model reads; `sys.maxsize` where its config sets no limit."""
    return context(model) or sys.maxsize


def room(model: Any, prompts: Sequence[Sequence[int]]) -> list[float]:
    """Return how many tokens the answer to each prompt may have, infinity where the config sets no limit.

    Raises ValueError for a prompt that does not fit into the context.
    """
    needed, most = max(map(len, prompts), default=0), context(model) or math.inf
    if needed >= most:
        raise ValueError(
            f"A prompt has {needed:,} tokens, and the context of the model {most:,}, its answer included. Shorten or leave out the prompt, or "
            "take a model with a longer context."
        )
    return [most - len(prompt) for prompt in prompts]


def cut(model: Any, tokens: int) -> int:
    """Return the length at which texts are cut into pieces: `tokens`, or the model's context where that is shorter."""
    return min(tokens, context(model) or tokens)


def check(model: Any, sequences: Iterable[Encoded], setting: str = "") -> None:
    """Raise ValueError if one of the sequences or of their auxiliary ones is longer than the model's context.

    `setting` names the setting that limits their length, if there is one. Tokens that an objective's link adds are not checked: they are not
    text of the data, and are cut off where the context ends.
    """
    most, needed = longest(model), max(listed(sequences).longest, default=0)
    if needed > most:
        remedy = (
            f"Set {setting}: {most} or less"
            if setting
            else "Shorten it or leave it out, or take a model with a longer context"
        )
        raise ValueError(
            f"The context of the model has {most:,} tokens, and a text of {needed:,} tokens is in the data. {remedy}."
        )
