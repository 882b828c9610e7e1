"""Log files that several processes append to one after the other: of MLflow's uploader and Prefect's server."""

from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

LIMIT = 2**20
"""Size in bytes above which a log is started anew."""


def append(path: Path) -> BinaryIO:
    """Open a log to append to. One above the limit is renamed to `<name>.old`, over an earlier one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with suppress(FileNotFoundError):
        if path.stat().st_size > LIMIT:
            path.replace(path.with_suffix(".old"))
    return path.open("ab")
