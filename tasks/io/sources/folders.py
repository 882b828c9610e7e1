"""Find the use of each file below a folder: table, text, code or database; or the reason why it has none."""

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from tasks.io.sources import table
from tasks.io.sources.containers import archives
from tasks.io.sources.containers.archives import Entry
from tasks.io.sources.formats import detection

Role = Literal["table", "text", "code", "database", "other"]
IGNORED = frozenset({"__pycache__", "node_modules"})
"""Folders of tools, in addition to those whose name begins with a dot."""


def walk(folder: Path) -> Iterator[Path]:
    """Yield the files below a folder by path, without those of tools and hidden ones. A link to a folder is yielded, and not followed."""
    for entry in sorted(folder.iterdir()):
        if entry.name.startswith(".") or entry.name in IGNORED:
            continue
        if entry.is_dir() and not entry.is_symlink():
            yield from walk(entry)
        else:
            yield entry


def role(path: Path) -> Role:
    """Return the use of a file, by its content; `other` if it has none or cannot be read, and for a pipe, a socket or a link to a folder."""
    if path.exists() and not path.is_file():  # who opens a pipe waits for who writes to it
        return "other"
    named = detection.named_format(path.name)
    if named in ("code", "e-mail"):  # by name, because their contents may look like anything
        return "code" if named == "code" else "text"
    try:
        entry = next(archives.entries(path), None)
        if not isinstance(entry, Entry) or entry.member:
            return "table"
        format = detection.detect(entry).format
    except (ValueError, OSError, RuntimeError):
        return "table" if named in table.READERS else "other"
    if format in (*table.READERS, "empty"):
        return "table"
    if format in ("SQLite", "DuckDB"):
        return "database"
    is_damaged = entry.name.lower().endswith(archives.ENDINGS)  # the bytes that identify an archive are missing
    return "text" if format in detection.TEXTS and not is_damaged else "other"
