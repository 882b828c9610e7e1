"""Log files to which several processes append one after the other: those of MLflow's uploader and of Prefect's server."""

from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

LIMIT = 2**20
"""Size in bytes above which a new log is started."""


def append(path: Path) -> BinaryIO:
    """Open a log for appending. A log above the limit is first renamed to `<name>.old`, replacing an earlier one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with suppress(FileNotFoundError):
        if path.stat().st_size > LIMIT:
            path.replace(path.with_suffix(".old"))
    return path.open("ab")
