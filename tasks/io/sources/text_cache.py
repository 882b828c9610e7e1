"""Texts of documents, cached by the contents of the file and the version of the extracting code."""

import hashlib
import json
import platform
from collections.abc import Iterator, Sequence
from functools import cache
from importlib import metadata
from pathlib import Path

from tasks.core.text.texts import Apply
from tasks.io import provenance
from tasks.io.sources import text
from tasks.io.sources.record import UnreadableError
from tasks.io.system import files

LIBRARIES = ("charset-normalizer", "mammoth", "pypdf")
BYTES = 1 << 18
"""Number of bytes of documents whose extraction takes some tenths of a second, as long as an item that is worth a process."""


class TextCache:
    """Extracts each document once."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._used: set[str] = set()

    def pending(self, documents: Sequence[Path]) -> list[Path]:
        """Return the documents whose texts are not cached yet."""
        return [file for file in documents if not self._place(file).exists()]

    def extract(self, documents: Sequence[Path], apply: Apply) -> Iterator[Path]:
        """Extract documents, in other processes if `apply` has any, and yield each when its text is cached."""
        worth = min(len(documents), sum(file.stat().st_size for file in documents) // BYTES)
        for file, extracted in zip(documents, apply(_extracted, documents, worth), strict=True):
            _keep(self._place(file), extracted)
            yield file

    def read(self, file: Path) -> tuple[str, str]:
        """Return the running text of a document and a note, like `text.running_text`, and raise UnreadableError like it."""
        path = self._place(file)
        try:
            kept = json.loads(path.read_bytes())
        except (FileNotFoundError, ValueError):  # a power failure may leave a file without its contents
            kept = _extracted(file)
            _keep(path, kept)
        if "problem" in kept:
            raise UnreadableError(kept["problem"])
        return kept["text"], kept["note"]

    def _place(self, file: Path) -> Path:
        facts = [provenance.digest(file), file.suffix.lower(), _version()]
        key = hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:32]
        self._used.add(key)
        return self._folder / key[:2] / key

    def forget_unused(self) -> None:
        """Remove the texts that were not requested."""
        for path in self._folder.glob("*/*"):
            if path.name not in self._used:
                path.unlink()


def _keep(path: Path, extracted: dict[str, str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = files.sibling(path)
    partial.write_text(json.dumps(extracted), encoding="utf-8")
    partial.replace(path)


def _extracted(file: Path) -> dict[str, str]:
    try:
        body, note = text.running_text(file)
    except UnreadableError as error:
        return {"problem": str(error)}
    return {"text": body, "note": note}


@cache
def _version() -> list[str]:
    """Return a digest of the extracting code, and the versions of its libraries; empty for one that is not installed."""
    versions = [platform.python_version()]
    for name in LIBRARIES:
        try:
            versions.append(metadata.version(name))
        except metadata.PackageNotFoundError:
            versions.append("")
    return [provenance.code_digest(provenance.closure(text.__name__)), *versions]
