"""Run a command that cannot outlive its parent: `python flows/execution/supervisor.py COMMAND…`.

The supervisor stands between a flow and what the flow starts. When its parent has gone, or when it is told to stop, everything
that the command started ends: by request, and five seconds later by force. Prefect's threads cannot promise this, and a stage
that outlives its DVC would write beside the next one. Needs the standard library only, so that it starts in no time.
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
"""How long a command may take to end by itself once it was asked to."""
PACE_S = 0.1
PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36


def start(command: list[str], **options: Any) -> subprocess.Popen[Any]:
    """Start `command` under a supervisor of its own; the process returned is the supervisor."""
    # A parent that dies before its child has looked would go unnoticed, so the child is told whom to watch.
    env = dict(options.pop("env", os.environ)) | {OWNER: str(os.getpid())}
    # In a session of its own it does not hear the terminal's Ctrl-C: the flow decides in which order things end.
    # By its path, so that it starts from any folder; `-P` keeps this folder off the path of imports.
    return subprocess.Popen([sys.executable, "-P", __file__, *command], env=env, start_new_session=True, **options)


@contextlib.contextmanager
def running(command: list[str], **options: Any) -> Iterator[subprocess.Popen[Any]]:
    """Run `command` under a supervisor of its own until the block ends; the process that is yielded is the supervisor."""
    process = start(command, **options)
    try:
        yield process
    finally:
        stop([process])


def stop(processes: Iterable[subprocess.Popen[Any]]) -> None:
    """End these supervised processes, and return when they and all below them are gone."""
    ending = list(processes)
    for process in ending:
        process.terminate()
    for process in ending:
        process.wait()


def follow_parent() -> None:
    """End this process as soon as its parent has gone: by request, then by force. Returns at once."""
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
    _prctl(PR_SET_CHILD_SUBREAPER, 1)  # orphans below become children of this process, so that none is lost from sight
    # Whoever shoots this process must not set the command free. It has no threads, so that the hook is safe.
    bound = functools.partial(_prctl, PR_SET_PDEATHSIG, signal.SIGTERM)
    child = subprocess.Popen(command, start_new_session=True, preexec_fn=bound)
    ended = None
    if sys.platform == "linux":
        with contextlib.suppress(OSError):  # an old kernel has none
            ended = os.pidfd_open(child.pid)
    while child.poll() is None and not signals and os.getppid() == parent:
        if ended is not None:  # tells at once, while `wait` with a timeout looks eighty times a second
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
    """End the child's group and every other descendant: first by request, then by force."""
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
    """Collect the child and orphans that have ended: a zombie still counts as a member of its group."""
    child.poll()
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def descendants(root: int) -> Iterator[int]:
    """Yield all processes below `root`, those in sessions of their own included; none on a system without /proc."""
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
