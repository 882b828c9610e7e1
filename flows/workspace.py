"""The folder that a flow works in: its scratch, its lock, its git commit."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tasks.io import locks

SCRATCH = Path(".ratchet")
LOGS = SCRATCH / "logs"
LOCKS = SCRATCH / "locks"
NO_STAGE = ("flow", "up")
"""Locks of what starts stages."""


@contextmanager
def claimed(name: str = "flow", what: str = "another flow") -> Iterator[None]:
    """The workspace for one flow (or one server) alone. Raises RuntimeError that names the process which has it."""
    try:
        with locks.exclusive(LOCKS / f"{name}.lock"):
            yield
    except locks.Taken as taken:
        raise RuntimeError(
            f"{what} ({taken.owner}) works in this workspace. {remedy(taken.path, taken.owner)}"
        ) from None


def remedy(lock: Path, owner: locks.Owner) -> str:
    """What a person does about a lock that is held."""
    if owner.elsewhere:
        return (
            f"A workspace is for one machine at a time: see on {owner.host} whether it is at work. "
            f"If it is dead, take its claim away: rm {lock}"
        )
    return f"Wait for it, or end it and all it started: kill {owner.pid}"


def held() -> dict[Path, locks.Owner]:
    """The locks that a living process holds now, or one of another machine may hold."""
    found = {path: locks.held(path) for path in sorted(LOCKS.glob("*.lock"))}
    return {path: owner for path, owner in found.items() if owner}


def commit() -> str:
    """The git commit that is checked out, or `none`."""
    answer = subprocess.run(
        ["git", "rev-parse", "--verify", "--quiet", "HEAD"], capture_output=True, text=True, check=False
    )
    return answer.stdout.strip() or "none"
