"""The control tokens of a tokenizer: those that begin or end a turn or a text. The first of them behind an answer ends its turn."""

import re
from typing import Any


def control_tokens(tokenizer: Any) -> dict[str, int]:
    """Return the texts that a tokenizer takes for control tokens, and their ids."""
    return {str(token): index for index, token in tokenizer.added_tokens_decoder.items() if token.special}


def first_control_token(text: str, tokenizer: Any, start: int = 0) -> re.Match[str] | None:
    """Return the first control token of a text from a place on, the longest where several begin there; None if there is none."""
    tokens = sorted(control_tokens(tokenizer), key=len, reverse=True)
    return re.compile("|".join(map(re.escape, tokens))).search(text, start) if tokens else None
