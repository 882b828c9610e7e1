"""The folder that a flow works in: its scratch, its lock, its git commit."""

import fcntl
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SCRATCH = Path(".ratchet")
LOGS = SCRATCH / "logs"
LOCKS = SCRATCH / "locks"


@contextmanager
def claimed(name: str = "flow", what: str = "another flow") -> Iterator[None]:
    """The workspace for one flow (or one server) alone. Raises RuntimeError that names the process which has it."""
    LOCKS.mkdir(parents=True, exist_ok=True)
    with (LOCKS / f"{name}.lock").open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # the kernel drops it with the process
        except BlockingIOError:
            pid = owner(lock.name)
            raise RuntimeError(
                f"{what} (process {pid}) works in this workspace. Wait for it, or end it and all it started: kill {pid}"
            ) from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield
        lock.truncate(0)


def owner(lock: str | Path) -> str:
    """The process that wrote its number into a lock file."""
    return Path(lock).read_text().strip() or "unknown"


def held() -> dict[str, str]:
    """The locks that a living process holds now: name → process."""
    found = {}
    for path in sorted(LOCKS.glob("*.lock")):
        with path.open("a+") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                found[path.stem] = owner(path)
    return found


def commit() -> str:
    """The git commit that is checked out, or `none`."""
    answer = subprocess.run(
        ["git", "rev-parse", "--verify", "--quiet", "HEAD"], capture_output=True, text=True, check=False
    )
    return answer.stdout.strip() or "none"
