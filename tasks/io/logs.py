"""Logs to which one process after the other adds: what MLflow's carrier and Prefect's server have to say."""

from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

LIMIT = 2**20
"""The bytes from which on a log is begun anew."""


def append(path: Path) -> BinaryIO:
    """Open a log at its end. One that has grown past the limit becomes `<name>.old`, and that of before is gone."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with suppress(FileNotFoundError):
        if path.stat().st_size > LIMIT:
            path.replace(path.with_suffix(".old"))
    return path.open("ab")
