"""Make temporary folders that do not stay: what a killed process left, the next one that makes such a folder removes."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tasks.io.system import files, locks

LOCK = "lock"


@contextmanager
def folder(kind: str) -> Iterator[Path]:
    """Make a locked folder, and remove those of this kind whose lock was lost with the process that held it."""
    prefix = f"ratchet-{kind}-"
    for left in Path(tempfile.gettempdir()).glob(f"{prefix}*"):
        with suppress(OSError), (left / LOCK).open("a") as file:  # others', or gone since
            if locks.seized(file):
                shutil.rmtree(left)
    while True:
        with tempfile.TemporaryDirectory(prefix=prefix) as name:
            try:
                lock = files.locked(Path(name) / LOCK)
            except FileNotFoundError:  # taken for one that was left
                continue
            with lock:
                yield Path(name)
            return
