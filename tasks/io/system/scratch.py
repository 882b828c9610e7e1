"""Create temporary folders that do not accumulate: a folder that a killed process left is removed when the next one of its kind is created."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tasks.io.system import files, locks

LOCK = "lock"


@contextmanager
def folder(kind: str) -> Iterator[Path]:
    """Create a locked folder, and remove folders of this kind whose lock was released by the end of its process."""
    prefix = f"ratchet-{kind}-"
    for left in Path(tempfile.gettempdir()).glob(f"{prefix}*"):
        with suppress(OSError), (left / LOCK).open("a") as file:  # it belongs to another user, or is already gone
            if locks.seized(file):
                shutil.rmtree(left)
    while True:
        with tempfile.TemporaryDirectory(prefix=prefix) as name:
            try:
                lock = files.locked(Path(name) / LOCK)
            except FileNotFoundError:  # it was taken for a leftover
                continue
            with lock:
                yield Path(name)
            return
