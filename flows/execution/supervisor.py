"""Run a command that cannot outlive its parent: `python flows/execution/supervisor.py COMMAND…`.

The supervisor is the parent process of a command that a flow starts. When its own parent has ended, or when it is asked to stop, everything
that the command started ends: by SIGTERM, and five seconds later by SIGKILL. Prefect's threads cannot promise this, and a stage that
outlives its DVC process would write at the same time as the next one. Needs only the standard library, so that it starts fast.
"""

import contextlib
import ctypes
import functools
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

OWNER = "RATCHET_OWNER"
PATIENCE_S = 5.0
"""Seconds that a command may take to end after SIGTERM."""
PACE_S = 0.1
PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36


def start(command: list[str], **options: Any) -> subprocess.Popen[Any]:
    """Start `command` under a supervisor of its own; returns the process of the supervisor."""
    # A parent that ends before the child reads its parent's id would go unnoticed, so the child is given that id.
    env = dict(options.pop("env", os.environ)) | {OWNER: str(os.getpid())}
    # In a session of its own it does not receive the terminal's Ctrl-C: the flow decides in which order processes end.
    # Started by path, so that it works from any folder; `-P` keeps its folder off sys.path.
    return subprocess.Popen([sys.executable, "-P", __file__, *command], env=env, start_new_session=True, **options)


@contextlib.contextmanager
def running(command: list[str], **options: Any) -> Iterator[subprocess.Popen[Any]]:
    """Run `command` under a supervisor of its own until the block ends; yields the process of the supervisor."""
    process = start(command, **options)
    try:
        yield process
    finally:
        stop([process])


def stop(processes: Iterable[subprocess.Popen[Any]]) -> None:
    """End these supervised processes, and return when they and all their descendants have ended."""
    ending = list(processes)
    for process in ending:
        process.terminate()
    for process in ending:
        process.wait()


def follow_parent() -> None:
    """End this process as soon as its parent has ended: by SIGTERM, then by SIGKILL. Returns at once."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(PACE_S)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(2 * PATIENCE_S)  # its own children end within the first half
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, name="follow-parent", daemon=True).start()


def main(command: list[str]) -> int:
    """Run `command` to its end and return its exit code, or 128 + the signal that ended it."""
    parent = int(os.environ.pop(OWNER, os.getppid()))
    signals: list[int] = []

    def note(number: int, _frame: FrameType | None) -> None:
        signals.append(number)

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, note)
    _prctl(PR_SET_CHILD_SUBREAPER, 1)  # orphaned descendants become children of this process, so that it can end them
    # Killing this process must also end the command. It has no threads, so `preexec_fn` is safe.
    bound = functools.partial(_prctl, PR_SET_PDEATHSIG, signal.SIGTERM)
    child = subprocess.Popen(command, start_new_session=True, preexec_fn=bound)
    ended = None
    if sys.platform == "linux":
        with contextlib.suppress(OSError):  # old kernels have no pidfd
            ended = os.pidfd_open(child.pid)
    while child.poll() is None and not signals and os.getppid() == parent:
        if ended is not None:  # returns at once, while `wait` with a timeout polls eighty times a second
            select.select([ended], [], [], PACE_S)
        else:
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(PACE_S)
    code = child.poll()
    _end(child)
    if code is None:
        return 128 + (signals[0] if signals else signal.SIGTERM)
    return code if code >= 0 else 128 - code


def _prctl(option: int, value: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(option, value)


def _end(child: subprocess.Popen[Any]) -> None:
    """End the child's process group and every other descendant: first by SIGTERM, then by SIGKILL."""
    for number, patience in ((signal.SIGTERM, PATIENCE_S), (signal.SIGKILL, PATIENCE_S)):
        deadline = time.monotonic() + patience
        _signal(child, number)
        while time.monotonic() < deadline:
            _reap(child)
            if not _group_lives(child) and not any(True for _ in descendants(os.getpid())):
                return
            time.sleep(PACE_S / 2)


def _signal(child: subprocess.Popen[Any], number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child.pid, number)
    for pid in descendants(os.getpid()):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def _group_lives(child: subprocess.Popen[Any]) -> bool:
    try:
        os.killpg(child.pid, 0)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def _reap(child: subprocess.Popen[Any]) -> None:
    """Reap the child and orphans that have ended: a zombie still counts as a member of its process group."""
    child.poll()
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def descendants(root: int) -> Iterator[int]:
    """Yield all descendants of `root`, including those in sessions of their own; none on a system without /proc."""
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, parent = stat.read_text().rpartition(")")[2].split()[:2]
            if state != "Z":
                children.setdefault(int(parent), []).append(int(stat.parent.name))
    waiting = list(children.get(root, []))
    while waiting:
        pid = waiting.pop()
        yield pid
        waiting += children.get(pid, [])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
