"""A call of a model, as a trace tells it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Call:
    """A question to a model and its answer, with the time that it took."""

    model: str
    asked: Mapping[str, Any]
    """In the shape of OpenAI's requests."""
    answered: Mapping[str, Any]
    """In the shape of OpenAI's answers; empty where there is none."""
    began: float
    """Unix time."""
    seconds: float
    """Of an answer that was written in a batch: those of the batch."""
    tokens_read: int = 0
    tokens_written: int = 0
    """Both 0 where they are not known."""
    error: str = ""
    """Why it failed; empty where it did not."""
