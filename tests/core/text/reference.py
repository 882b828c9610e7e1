"""Words of one text by Python's `re`, the reference for the vectorised search in many texts."""

import re

from tasks.core.text.words import PATTERN, normalised


def words(text: str) -> list[str]:
    """Return the words of a text in lower case. For `re`, combining marks are not part of a word."""
    return re.findall(PATTERN, normalised(text).casefold())
