"""Clean texts: normalise Unicode and line ends, collapse white space, remove comment lines and lines that files share."""

import json
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

from tasks.core.records import excerpt


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


def without_shared_lines(texts: Mapping[PurePosixPath, str]) -> dict[PurePosixPath, str]:
    """Remove from each file the lines that more than half of the files below some folder above it hold.

    Those are menus, notices, page headers. A manual has its own beside those of the whole collection, so every folder counts;
    a smaller share of all files would find them too, but would also remove code and headings. Fewer than three files share nothing.
    """
    files_below: defaultdict[PurePosixPath, list[set[str]]] = defaultdict(list)
    for path, text in texts.items():
        lines = {line.strip() for line in text.splitlines()}
        for folder in path.parents:
            files_below[folder].append(lines)
    shared = {folder: _shared_lines(files) for folder, files in files_below.items()}

    def is_kept(path: PurePosixPath, line: str) -> bool:
        return not any(line.strip() in shared[folder] for folder in path.parents)

    return {path: "\n".join(line for line in text.splitlines() if is_kept(path, line)) for path, text in texts.items()}


def _shared_lines(files: Sequence[set[str]]) -> set[str]:
    """Return the lines that more than half of the files hold, and at least three of them."""
    counts = Counter(line for lines in files for line in lines if line)
    return {line for line, count in counts.items() if count > max(2, len(files) // 2)}


def without_comments(text: str) -> str:
    """Remove the lines that begin with `#`: a copied module often has another header."""
    return "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))


def beginning(record: Any) -> str:
    """Return the first characters of a record, so that a person can find it."""
    return excerpt(record if isinstance(record, str) else json.dumps(record, ensure_ascii=False, default=str))
