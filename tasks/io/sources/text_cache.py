"""Texts of documents, kept by the contents of the file and the version of what extracts them."""

import hashlib
import json
import platform
from functools import cache
from importlib import metadata
from pathlib import Path

from tasks.io import provenance
from tasks.io.sources import text
from tasks.io.sources.record import UnreadableError
from tasks.io.system import files

LIBRARIES = ("charset-normalizer", "mammoth", "pypdf")


class TextCache:
    """Extracts each document once."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._used: set[str] = set()

    def read(self, file: Path) -> tuple[str, str]:
        """Return the running text of a document, and a note, as `text.running_text` does. Raises UnreadableError as that does."""
        facts = [provenance.digest(file), file.suffix.lower(), _version()]
        key = hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:32]
        self._used.add(key)
        path = self._folder / key[:2] / key
        try:
            kept = json.loads(path.read_bytes())
        except (FileNotFoundError, ValueError):  # a power failure may leave a file without its contents
            kept = _extracted(file)
            path.parent.mkdir(parents=True, exist_ok=True)
            partial = files.sibling(path)
            partial.write_text(json.dumps(kept), encoding="utf-8")
            partial.replace(path)
        if "problem" in kept:
            raise UnreadableError(kept["problem"])
        return kept["text"], kept["note"]

    def forget_unused(self) -> None:
        """Remove the texts that were not asked for."""
        for path in self._folder.glob("*/*"):
            if path.name not in self._used:
                path.unlink()


def _extracted(file: Path) -> dict[str, str]:
    try:
        body, note = text.running_text(file)
    except UnreadableError as error:
        return {"problem": str(error)}
    return {"text": body, "note": note}


@cache
def _version() -> list[str]:
    """Return a digest of the code that extracts, and the versions of its libraries; empty for one that is not installed."""
    versions = [platform.python_version()]
    for name in LIBRARIES:
        try:
            versions.append(metadata.version(name))
        except metadata.PackageNotFoundError:
            versions.append("")
    return [provenance.code_digest(provenance.closure(text.__name__)), *versions]
