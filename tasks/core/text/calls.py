"""The record of a call of a model, for traces."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Call:
    """A request to a model and its answer, with the duration."""

    model: str
    asked: Mapping[str, Any]
    """The request, in OpenAI's form."""
    answered: Mapping[str, Any]
    """The answer, in OpenAI's form; empty if there is none."""
    began: float
    """Start of the call, in Unix time."""
    seconds: float
    """Duration of the call. For an answer of a batch, it is that of the batch."""
    tokens_read: int = 0
    tokens_written: int = 0
    """Both are 0 if they are not known."""
    error: str = ""
    """The reason for a failure; empty without one."""
