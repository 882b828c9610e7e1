"""The server's handle on a program's process: start it, report its status, kill it and its descendants."""

import contextlib
import os
import signal
import sys
from pathlib import Path
from typing import Any

from tasks.io.sandbox.guest.program import become_program


class Executor:
    """One program's process.

    It reads from `requests` and writes to `answers`; the other ends are outside the sandbox.
    """

    def __init__(self, limits: dict[str, Any], folder: Path, requests: int, answers: int) -> None:
        self.alone = os.getpid() == 1
        self.ended = ""
        self.pid = os.fork()
        if self.pid == 0:
            become_program(limits, folder, requests, answers, self.alone)
        os.close(requests)
        os.close(answers)

    def status(self) -> str:
        """Return exit code and seconds of CPU time of a process that has ended by itself; empty while it runs."""
        if not self.ended:
            ended_pid, status, usage = os.wait4(self.pid, os.WNOHANG)
            if ended_pid:
                self.ended = f"{os.waitstatus_to_exitcode(status)} {usage.ru_utime + usage.ru_stime}"
        return self.ended

    def end(self) -> None:
        """Kill every process of this case."""
        if self.alone:
            kill_all()
        else:
            kill_family(self.pid)


def kill_all() -> None:
    """Kill and reap every other process of this namespace, in which this process is number 1."""
    while True:
        with contextlib.suppress(ProcessLookupError):
            os.kill(-1, signal.SIGKILL)
        if not reap():
            return


def kill_family(leader: int) -> None:
    """Kill the leader's process group, then every orphan that this process has adopted. This is for a sandbox without a namespace."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, signal.SIGKILL)
    children = Path(f"/proc/self/task/{os.getpid()}/children")
    while True:
        for child in children.read_text().split() if children.exists() else ():
            os.kill(int(child), signal.SIGKILL)
        if not reap():
            return


def reap() -> bool:
    """Wait for a child to end and reap it. Return False if there is no child."""
    try:
        os.wait4(-1, 0)
    except ChildProcessError:
        return False
    return True


def adopt_orphans() -> None:
    """On Linux, become the parent of descendants whose own parent has ended, so that they can be found."""
    if sys.platform == "linux":
        import ctypes

        pr_set_child_subreaper = 36
        ctypes.CDLL(None).prctl(pr_set_child_subreaper, 1, 0, 0, 0)
