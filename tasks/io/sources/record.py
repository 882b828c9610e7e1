"""A record of a source and its place: `Row` if it could be read, `Broken` if not."""

from dataclasses import dataclass
from typing import Any

SHOWN = 2_000
"""Number of characters of an unreadable record that are kept to show it."""


@dataclass(frozen=True)
class Row:
    """A record and its place."""

    where: str
    """`line 3`, or `row 3` if a format has no lines; for a member of an archive, after its name."""
    values: dict[str, Any]


@dataclass(frozen=True)
class Broken:
    """A record, or the rest of a file, that could not be read."""

    where: str
    reason: str
    detail: str
    record: str


Record = Row | Broken


class UnreadableError(ValueError):
    """Raised for a file of which nothing can be read."""


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, or its class if there is none."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def shown_name(name: str) -> str:
    """Return the name of a file as text. Bytes that are not UTF-8, which Python stores as lone surrogates, are escaped."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
