"""Texts made plain, without what they share, and in pieces."""

import json
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

from tasks.core.records import excerpt


def clean(text: str) -> str:
    """The text in Unicode's composed form with plain newlines and nothing around it."""
    return unicodedata.normalize("NFC", text.replace("\r\n", "\n").replace("\r", "\n")).strip()


def squeezed(text: str) -> str:
    """The text with every run of white space as one space: what two equal texts share."""
    return " ".join(text.split())


def without_shared_lines(texts: Mapping[PurePosixPath, str]) -> dict[PurePosixPath, str]:
    """The text of each file without the lines that more than half of the files below some folder above it hold.

    Those are menus, notices, page headers. A manual has its own beside those of the whole collection, so every folder counts;
    a share of all files that is small enough to find them would take code and headings too. Fewer than three files share nothing.
    """
    below: defaultdict[PurePosixPath, list[set[str]]] = defaultdict(list)
    for name, text in texts.items():
        lines = {line.strip() for line in text.splitlines()}
        for place in name.parents:
            below[place].append(lines)
    shared = {place: _shared(members) for place, members in below.items()}

    def own(name: PurePosixPath, line: str) -> bool:
        return not any(line.strip() in shared[place] for place in name.parents)

    return {name: "\n".join(line for line in text.splitlines() if own(name, line)) for name, text in texts.items()}


def _shared(texts: Sequence[set[str]]) -> set[str]:
    """The lines that more than half of the texts hold, and at least three of them."""
    counts = Counter(line for lines in texts for line in lines if line)
    return {line for line, count in counts.items() if count > max(2, len(texts) // 2)}


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
    return excerpt(record if isinstance(record, str) else json.dumps(record, ensure_ascii=False, default=str))
