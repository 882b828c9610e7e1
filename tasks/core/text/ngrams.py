"""Words and n-grams of texts."""

import re
from collections.abc import Sequence

PATTERN = r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uff66-\uff9d]|[^\W_]+"
"""One word. Scripts without spaces (Thai, Lao, Burmese, Khmer, kana, Chinese) count each character as a word; an underscore parts words."""
WORD = re.compile(PATTERN)


def words(text: str) -> list[str]:
    """Return the words of a text in lower case, numbers included, punctuation not."""
    return WORD.findall(text.casefold())


def ngrams(parts: Sequence[str], n: int) -> set[str]:
    """Return every run of `n` words."""
    return {" ".join(parts[start : start + n]) for start in range(len(parts) - n + 1)}
