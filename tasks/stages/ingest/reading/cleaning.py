"""Clean texts: normalise Unicode and line ends, collapse white space, remove comment lines."""

import hashlib
import json
import unicodedata
from typing import Any

from tasks.core.text.visible import EXCERPT, excerpt


def clean(text: str) -> str:
    """Return the text in Unicode's composed form (NFC), with `\\n` as line ends, stripped."""
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    return (text if text.isascii() else unicodedata.normalize("NFC", text)).strip()


def collapse_whitespace(text: str) -> str:
    """Replace every run of white space by one space. Texts that are then equal count as duplicates."""
    if "  " not in text and text.isprintable():  # the space is the only printable white space
        return text.strip()
    return " ".join(text.split())


def without_comments(text: str) -> str:
    """Remove the lines that begin with `#`, since a copied module often has a different header."""
    return "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))


def beginning(record: Any) -> str:
    """Return the first characters of a record, so that a person can find it."""
    return excerpt(_as_text(record))


def group_name(value: Any) -> str | None:
    """Return a column's value as the name of a group; None if it is empty or NaN. A long name is cut and ends with a digest."""
    text = _as_text(value)
    if value is None or value != value or not text.strip():
        return None
    if len(text) <= EXCERPT:
        return excerpt(text)
    return f"{excerpt(text)} {hashlib.sha256(text.encode('utf-8', 'surrogatepass')).hexdigest()[:16]}"


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
