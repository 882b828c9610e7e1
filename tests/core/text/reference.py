"""Words of a text by Python's `re`, one text at a time, as a reference for those of many texts."""

import re

from tasks.core.text.words import PATTERN, normalised


def words(text: str) -> list[str]:
    """Return the words of a text in lower case. Of combining marks `re` makes no part of a word."""
    return re.findall(PATTERN, normalised(text).casefold())
