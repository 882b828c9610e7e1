"""Words, n-grams and pieces of texts."""

import json
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

# Scripts without spaces count each character as a word; an underscore parts words.
WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]|[^\W_]+")
RECORD_CHARS = 200


def words(text: str) -> list[str]:
    """The words of a text in lower case, numbers included, punctuation not."""
    return WORD.findall(text.casefold())


def ngrams(parts: Sequence[str], n: int) -> set[str]:
    """Every run of `n` words."""
    return {" ".join(parts[start : start + n]) for start in range(len(parts) - n + 1)}


def clean(text: str) -> str:
    """The text in Unicode's composed form with plain newlines and nothing around it."""
    return unicodedata.normalize("NFC", text.replace("\r\n", "\n").replace("\r", "\n")).strip()


def squeezed(text: str) -> str:
    """The text with every run of white space as one space: what two equal texts share."""
    return " ".join(text.split())


def without_shared_lines(texts: Sequence[str], limit: int) -> list[str]:
    """The texts without the lines that more than `limit` of them hold: menus, notices, page headers."""
    counts = Counter(line for text in texts for line in {line.strip() for line in text.splitlines()})
    shared = {line for line, count in counts.items() if line and count > limit}
    return ["\n".join(line for line in text.splitlines() if line.strip() not in shared) for text in texts]


def without_comments(text: str) -> str:
    """The text without lines that begin with `#`: a copied module often has another header."""
    return "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))


def pieces(text: str, limit: int) -> Iterator[str]:
    """The text in order, cut into at most `limit` characters: at a blank line, else a line's end, else anywhere."""
    while len(text) > limit:
        window = text[:limit]
        end = window.rfind("\n\n") + 2
        if end <= limit // 4:  # a blank line near the start, or none, would leave a crumb
            end = window.rfind("\n") + 1 or limit
        yield text[:end]
        text = text[end:]
    yield text


def start(record: Any) -> str:
    """The first characters of a record, so that a person can find it."""
    text = record if isinstance(record, str) else json.dumps(record, ensure_ascii=False, default=str)
    return text[:RECORD_CHARS].encode("utf-8", "replace").decode("utf-8")
