"""Hold the lease of a workspace: one flow and one server at a time. Stages and models have additional locks of their own."""

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path

from flows.execution.workspace import SCRATCH
from tasks.io.system import locks, progress

LOCKS = SCRATCH / "locks"
FLOW, SERVER = "flow", "up"
"""The locks of a flow, which starts stages, and of the server, which starts flows."""
PACE_S = 0.5

_ours: set[str] = set()
"""The locks that this process holds: functions called by a flow may acquire its lock again."""


@contextmanager
def acquired(name: str = FLOW, holder: str = "another flow", *, wait: bool = False) -> Iterator[None]:
    """Hold the workspace for one flow (or one server) alone. Waits for another process, or raises RuntimeError, which names it."""
    if name in _ours:
        yield
        return
    with ExitStack() as stack:
        reported = None
        while owner := _owner_or_lock(name, stack):
            if not wait or owner.elsewhere:
                raise RuntimeError(
                    f"{holder} ({owner}) works in this workspace. {remedy(LOCKS / f'{name}.lock', owner)}"
                )
            if owner != reported:
                progress.say(f"{holder} ({owner}) works in this workspace. This run starts when it has ended.")
                reported = owner
            time.sleep(PACE_S)
        _ours.add(name)
        stack.callback(_ours.discard, name)
        yield


def writing() -> AbstractContextManager[None]:
    """Hold the workspace while settings or data are written: a stage would not publish outputs if its settings changed while it ran."""
    return acquired()


def check_free() -> None:
    """Raise RuntimeError, which names the flow that runs here, so that a long or interactive command is refused before it begins."""
    with acquired():
        pass


def remedy(lock: Path, owner: locks.Owner) -> str:
    """Return what a person can do about a lock that is held."""
    if owner.elsewhere:
        return (
            f"A workspace is for one machine at a time: see on {owner.host} whether it is running. "
            f"If it is not, remove its lock: rm {lock}"
        )
    return f"Wait for it, or end it and its child processes: kill {owner.pid}"


def held() -> dict[Path, locks.Owner]:
    """Return the locks that a living process holds now, or that a process of another machine may hold."""
    owners = {path: locks.held(path) for path in sorted(LOCKS.glob("*.lock"))}
    return {path: owner for path, owner in owners.items() if owner}


def is_busy() -> bool:
    """Return True if a flow or a stage works here now, or may do so on another machine."""
    return any(path.stem != SERVER for path in held())


def is_stage_running() -> bool:
    """Return True if a stage works here now, or may do so on another machine."""
    return any(path.stem not in (FLOW, SERVER) for path in held())


def _owner_or_lock(name: str, stack: ExitStack) -> locks.Owner | None:
    """Return the owner of a lock; None if this process has acquired it, until the stack is closed."""
    try:
        stack.enter_context(locks.exclusive(LOCKS / f"{name}.lock"))
    except locks.Taken as taken:
        return taken.owner
    return None
