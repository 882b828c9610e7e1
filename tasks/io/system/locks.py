"""Locks on files. The kernel releases them when the process that holds them ends, and the file names that process."""

import fcntl
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

BOOT = Path("/proc/sys/kernel/random/boot_id")
GLANCES, PACE_S = 20, 0.01
"""Number of attempts to take a lock, and the seconds between them, before it counts as taken, because a process that only checks a lock holds it for a moment."""


@dataclass(frozen=True)
class Owner:
    """The process that holds a lock, or that held it when it died."""

    pid: str = "unknown"
    host: str = ""
    boot: str = ""
    """The kernel under which it ran, if that has a name. Containers of one machine share it."""

    def __str__(self) -> str:
        return f"process {self.pid}" + (f" of {self.host}" if self.host and self.elsewhere else "")

    @property
    def elsewhere(self) -> bool:
        """Return True if it ran under another kernel, whose processes are not visible here."""
        return bool(self.host) and self.host != socket.gethostname() and self.boot != _boot()


class Taken(RuntimeError):
    """Raised if another process holds the lock, or may hold it."""

    def __init__(self, path: Path, owner: Owner) -> None:
        super().__init__(f"{path} is held by {owner}")
        self.path, self.owner = path, owner


@contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Hold the lock exclusively. A lock of a dead process on this machine is taken over, one of another machine is not.

    Raises Taken, which names the owner.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+") as file:
        if not seized(file):
            raise Taken(path, owner(path))
        if (before := owner(path)).elsewhere:  # a shared folder may not transmit locks between machines
            raise Taken(path, before)
        _sign(file, f"{os.getpid()} {socket.gethostname()} {_boot()}")
        try:
            yield
        finally:
            _sign(file, "")


def owner(path: Path) -> Owner:
    """Return the process that last took the lock without releasing it."""
    words = path.read_text(encoding="utf-8").split()
    return Owner(*words[:3]) if words else Owner()


def held(path: Path) -> Owner | None:
    """Return the process that holds the lock now, or may hold it; None if it is free."""
    try:
        with path.open() as file:
            if in_use(file):
                return owner(path)
        last_owner = owner(path)
    except FileNotFoundError:
        return None
    return last_owner if last_owner.elsewhere else None


def seized(file: TextIO) -> bool:
    """Try to lock this open file exclusively until it is closed. Return True on success."""
    for _ in range(GLANCES):
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(PACE_S)
        else:
            return True
    return False


def in_use(file: TextIO) -> bool:
    """Return True if another open file has the lock. Otherwise this file holds it until it is closed."""
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    return False


def _sign(file: TextIO, text: str) -> None:
    file.truncate(0)
    file.write(text)
    file.flush()


def _boot() -> str:
    return BOOT.read_text().strip() if BOOT.exists() else ""
