"""The records of a log, for all harnesses: the items of each task with their scores."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

DIGESTED = 5000
"""Number of characters of a text from which its digest is computed. inspect-ai cuts the texts of its summaries slightly above it."""


@dataclass(frozen=True)
class Answer:
    """One judged answer in a log. An item has one for each epoch, or one for each filter."""

    item: str
    target: str
    """Digest of the right answer, or of the document. Items with equal ids and different targets are different items."""
    prompt: str
    """Digest of the prompt."""
    facts: Mapping[str, str]
    """Fields of the item, one of which may name its group."""
    scores: Mapping[str, Any]
    """Score in the log, by measure."""
    error: str = ""


@dataclass(frozen=True)
class Item:
    """One item with its mean scores over epochs."""

    target: str
    prompt: str
    facts: Mapping[str, str]
    scores: Mapping[str, float]


@dataclass(frozen=True)
class TaskLog:
    """The results of one model on one task."""

    task: str
    model: str
    version: str
    """The version of the task, empty if the log has none."""
    solver: str
    """The prompt template and the other solver steps, as far as the log has them."""
    run: str
    """The harness's id of the run, which is equal in two files of one run. Empty if the log has none."""
    items: Mapping[str, Item]
    epochs: int
    """The largest number of scores of one item."""
    remarks: tuple[str, ...]
    """Remarks about what the log lacks, with counts."""


@dataclass(frozen=True)
class Log:
    """One argument of the command: a file, or a folder of files that belong together."""

    path: Path
    harness: str
    tasks: Mapping[str, TaskLog]
    files: tuple[Path, ...]
    digests: tuple[str, ...] = field(repr=False)
    """SHA-256 of each of the files."""


def counted(count: int, noun: str) -> str:
    """Return a count with its noun: `1 item`, `2,000 items`."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def differ(first: str, other: str) -> bool:
    """Return True if two digests are of different texts. An empty one, of a text that a log lacks, differs from none."""
    return bool(first and other and first != other)


def digest(text: str) -> str:
    """Return the digest of the first `DIGESTED` characters of a text; empty for an empty text, which means that the log lacks it."""
    return hashlib.sha256(text[:DIGESTED].encode("utf-8", "surrogatepass")).hexdigest() if text else ""
