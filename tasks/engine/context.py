"""The context of a model: the most tokens of one text that it reads."""

from collections.abc import Iterable
from typing import Any

from tasks.core.sequences import Encoded
from tasks.engine.sequences import listed


def context(model: Any) -> int | None:
    """Return the most tokens of one text that a model reads; None where its config sets no limit."""
    return getattr(model.config.get_text_config(), "max_position_embeddings", None)


def check(model: Any, sequences: Iterable[Encoded], setting: str) -> None:
    """Raise ValueError if one of the sequences, whose length `setting` limits, is longer than the model's context."""
    most, longest = context(model), max(listed(sequences).tokens, default=0)
    if most is not None and longest > most:
        raise ValueError(
            f"The context of the model has {most:,} tokens, and a text of {longest:,} tokens is in the data. Set {setting}: {most} or less."
        )
