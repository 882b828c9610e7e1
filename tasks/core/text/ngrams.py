"""Words and n-grams of texts."""

import re
from collections.abc import Sequence

PATTERN = r"[\u3040-\u30ff\u3400-\u9fff]|[^\W_]+"
"""One word. Scripts without spaces count each character as a word; an underscore parts words."""
WORD = re.compile(PATTERN)


def words(text: str) -> list[str]:
    """Return the words of a text in lower case, numbers included, punctuation not."""
    return WORD.findall(text.casefold())


def ngrams(parts: Sequence[str], n: int) -> set[str]:
    """Return every run of `n` words."""
    return {" ".join(parts[start : start + n]) for start in range(len(parts) - n + 1)}
