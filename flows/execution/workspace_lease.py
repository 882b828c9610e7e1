"""Hold the lease of a workspace: one flow and one server at a time. Stages and models have additional locks of their own."""

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from flows.execution.dvc import rwlock
from flows.execution.workspace import SCRATCH
from tasks.io.system import locks, progress

LOCKS = SCRATCH / "locks"
FLOW, SERVER = "flow", "up"
"""The locks of a flow, which starts stages, and of the server, which starts flows."""
PACE_S = 0.5

_ours: set[str] = set()
"""The locks that this process holds: functions called by a flow may acquire its lock again."""


@dataclass(frozen=True)
class _Other:
    """Another process that works in this workspace."""

    name: str
    remedy: str
    is_elsewhere: bool = False


@contextmanager
def acquired(name: str = FLOW, holder: str = "another flow", *, wait: bool = False) -> Iterator[None]:
    """Hold the workspace for one flow (or one server) alone. Waits for another process, or raises RuntimeError, which names it.

    A flow also waits for a `dvc repro` that a person started: at the end of its stage, DVC waits only 3 s for a lock that the flow may hold,
    and then discards what the stage did.
    """
    if name in _ours:
        yield
        return
    with ExitStack() as stack:
        _await(partial(_holder_or_lock, name, holder, stack), wait=wait)
        if name == FLOW:
            _await(partial(_dvc, rwlock.StartedByHand()), wait=wait)
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
    return _ending(owner.pid)


def _ending(pid: int | str) -> str:
    return f"Wait for it, or end it and its child processes: kill {pid}"


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


def _await(other: Callable[[], _Other | None], *, wait: bool) -> None:
    """Return when no other process works here. Raises RuntimeError, which names it, if it should not be waited for."""
    reported = None
    while present := other():
        if not wait or present.is_elsewhere:
            raise RuntimeError(f"{present.name} works in this workspace. {present.remedy}")
        if present != reported:
            progress.say(f"{present.name} works in this workspace. This run starts when it has ended.")
            reported = present
        time.sleep(PACE_S)


def _holder_or_lock(name: str, holder: str, stack: ExitStack) -> _Other | None:
    """Return the process that holds a lock; None if this process has acquired it, until the stack is closed."""
    path = LOCKS / f"{name}.lock"
    try:
        stack.enter_context(locks.exclusive(path))
    except locks.Taken as taken:
        return _Other(f"{holder} ({taken.owner})", remedy(path, taken.owner), taken.owner.elsewhere)
    return None


def _dvc(started_by_hand: rwlock.StartedByHand) -> _Other | None:
    """Return a DVC process that a person started and that runs stages here or writes their outputs."""
    for pid, command in started_by_hand.running().items():
        return _Other(f"DVC (process {pid}: {command[:60]})", _ending(pid))
    return None
