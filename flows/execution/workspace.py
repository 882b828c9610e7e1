"""Folders of a workspace that flows write to."""

import os
from pathlib import Path

SCRATCH = Path(".ratchet")
LOGS = SCRATCH / "logs"


def replace(path: Path, text: str, partial: Path | None = None) -> None:
    """Put this text in the place of a file, whole or not at all; until then it stands in `partial`, beside the file."""
    partial = partial or path.with_name(path.name + ".partial")
    path.parent.mkdir(parents=True, exist_ok=True)
    with partial.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
