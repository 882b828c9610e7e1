"""The folder that a flow works in: its scratch, its lock, its git commit."""

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tasks.io import locks, progress

SCRATCH = Path(".ratchet")
LOGS = SCRATCH / "logs"
LOCKS = SCRATCH / "locks"
FLOW, SERVER = "flow", "up"
"""Locks of what starts stages: a flow, and the server that waits for flows to start."""
PACE_S = 0.5

_ours: set[str] = set()
"""The locks that this process holds: what a flow calls may claim again what the flow has."""


@contextmanager
def claimed(name: str = FLOW, what: str = "another flow", *, wait: bool = False) -> Iterator[None]:
    """The workspace for one flow (or one server) alone. What another process has is waited for, or RuntimeError names it."""
    if name in _ours:
        yield
        return
    with ExitStack() as stack:
        told = None
        while owner := _taken_by(name, stack):
            if not wait or owner.elsewhere:
                raise RuntimeError(f"{what} ({owner}) works in this workspace. {remedy(LOCKS / f'{name}.lock', owner)}")
            if owner != told:
                progress.say(f"{what} ({owner}) works in this workspace. This one begins when it has ended.")
                told = owner
            time.sleep(PACE_S)
        _ours.add(name)
        stack.callback(_ours.discard, name)
        yield


def _taken_by(name: str, stack: ExitStack) -> locks.Owner | None:
    """Who has the lock; None where it is ours now, until the stack is left."""
    try:
        stack.enter_context(locks.exclusive(LOCKS / f"{name}.lock"))
    except locks.Taken as taken:
        return taken.owner
    return None


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


def at_work() -> bool:
    """Whether a flow or a stage works here now, or may on another machine."""
    return any(path.stem != SERVER for path in held())


def stages_at_work() -> bool:
    """Whether a stage does."""
    return any(path.stem not in (FLOW, SERVER) for path in held())


def replace(path: Path, text: str, partial: Path | None = None) -> None:
    """Put this text in the place of a file, whole or not at all; until then it stands in `partial`, beside the file."""
    partial = partial or path.with_name(path.name + ".partial")
    path.parent.mkdir(parents=True, exist_ok=True)
    with partial.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def is_uncommitted(path: Path) -> bool:
    """Whether git has this file otherwise, or not at all. False where there is no git."""
    if shutil.which("git") is None:
        return False
    command = ["git", "status", "--porcelain", "--", str(path)]
    return bool(subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip())
