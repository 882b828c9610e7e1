"""Clean texts: normalise Unicode and line ends, collapse white space, remove comment lines."""

import json
import unicodedata
from typing import Any

from tasks.core.text.visible import excerpt


def clean(text: str) -> str:
    """Return the text in Unicode's composed form, with plain newlines, stripped."""
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    return (text if text.isascii() else unicodedata.normalize("NFC", text)).strip()


def collapse_whitespace(text: str) -> str:
    """Replace every run of white space by one space. Texts that are equal then count as duplicates."""
    if "  " not in text and text.isprintable():  # of white space, spaces alone are printable
        return text.strip()
    return " ".join(text.split())


def without_comments(text: str) -> str:
    """Remove the lines that begin with `#`: a copied module often has another header."""
    return "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))


def beginning(record: Any) -> str:
    """Return the first characters of a record, so that a person can find it."""
    return excerpt(record if isinstance(record, str) else json.dumps(record, ensure_ascii=False, default=str))
