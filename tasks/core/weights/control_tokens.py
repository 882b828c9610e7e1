"""The control tokens of a tokenizer, which begin or end a turn or a text. The first one after an answer ends its turn."""

import re
from typing import Any

TURNS = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Goodbye"}]


def control_tokens(tokenizer: Any) -> dict[str, int]:
    """Return the texts of a tokenizer's control tokens, and their ids."""
    return {str(token): index for index, token in tokenizer.added_tokens_decoder.items() if token.special}


def first_control_token(text: str, tokenizer: Any, start: int = 0) -> re.Match[str] | None:
    """Return the first control token in a text from a position on, the longest if several begin there; None if there is none."""
    tokens = sorted(control_tokens(tokenizer), key=len, reverse=True)
    return re.compile("|".join(map(re.escape, tokens))).search(text, start) if tokens else None


def end_of_turn(tokenizer: Any) -> str | None:
    """Return the first control token that the chat template writes after an answer, or else the tokenizer's end token.

    None if there is no template for a plain conversation.
    """
    from jinja2 import TemplateError

    if tokenizer.chat_template is None:
        return None
    try:
        text = tokenizer.apply_chat_template(TURNS, tokenize=False)
    except (TemplateError, TypeError, ValueError):  # ValueError: several templates, and none is the default
        return None
    _, answer, rest = text.rpartition(TURNS[-1]["content"])
    end = first_control_token(rest, tokenizer) if answer else None
    return end.group() if end else tokenizer.eos_token
