"""Processes of a run, found by a mark in their environment: identify, measure and kill them, and wait for their end. Linux."""

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from flows.execution import prefect_server
from tasks.forkserver import protocol

MARK = "RATCHET_CHAOS"
"""Environment variable that every process of a run inherits, even after its parent has changed."""
PACE_S = 0.1
MISSES = 3
"""Failed searches in a row before a victim counts as ended: the kernel's list of children has gaps while some end."""
TICK_S = 1 / os.sysconf("SC_CLK_TCK")
FORK_SERVER = "tasks.forkserver.server"
UPLOADER = "tasks.io.runs.spool_uploader"
ASIDE = (UPLOADER, "server")
"""Processes whose CPU time says nothing about the progress of a run."""


def command(pid: int) -> list[str]:
    """Return the command line of a process; empty if it has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")[:-1]
    except OSError:
        return []


def name(pid: int) -> str:
    """Return the name that a process gave itself; empty if it has ended."""
    try:
        return Path(f"/proc/{pid}/comm").read_text().rstrip("\n")
    except OSError:
        return ""


def is_stage(words: list[str], stage: str) -> bool:
    """Return True for the process that DVC's shell starts for a stage, in which it runs unless a fork server's child runs it."""
    return words[1:3] == ["-m", "tasks.run"] and words[3:] == stage.split("@")


def is_dvc(words: list[str], stage: str) -> bool:
    """Return True for the DVC process by which a flow runs one stage."""
    return words[1:3] in (["-m", "dvc"], ["-m", "flows.execution.dvc"]) and words[-1:] == [stage]


def is_supervisor(words: list[str], stage: str) -> bool:
    """Return True for the supervisor between a flow and the DVC process of a stage."""
    return [Path(word).name for word in words[2:3]] == ["supervisor.py"] and words[-1:] == [stage]


def is_flow(words: list[str]) -> bool:
    """Return True for a flow that a deployment runs."""
    return words[1:3] == ["-m", "prefect.engine"]


def is_server(words: list[str]) -> bool:
    """Return True for the process of a Prefect server that answers requests."""
    return "uvicorn" in words or words[2:4] == [prefect_server.PROGRAM, "server"]


def below(root: int) -> Iterator[int]:
    """Yield a process and its descendants, the nearest first.

    Reads lists of children only, as it runs many times a second.
    """
    waiting = [root]
    for pid in waiting:
        yield pid
        with contextlib.suppress(OSError):  # a process may end at any of these moments
            for thread in Path(f"/proc/{pid}/task").iterdir():
                waiting += map(int, (thread / "children").read_text().split())


def find(root: int, wanted: Callable[[list[str]], bool]) -> int | None:
    """Return the first process at or below `root` whose command line is `wanted`, or None."""
    return next((pid for pid in below(root) if wanted(command(pid))), None)


def fork_server(mark: str) -> int | None:
    """Return the fork server of a run, or None."""
    return _named(mark, protocol.NAME)


def forked(mark: str, stage: str) -> int | None:
    """Return the child of a fork server that runs a stage, or None."""
    return _named(mark, protocol.stage_name(stage.split("@")))


def _named(mark: str, wanted: str) -> int | None:
    """Return the process of this name among a run's fork servers and their children."""
    return next((pid for pid, words in marked(mark).items() if FORK_SERVER in words and name(pid) == wanted), None)


def work_s(pids: Iterable[int]) -> float:
    """Return the CPU seconds of processes and of those of their children that have ended, without uploaders and servers."""
    total = 0.0
    for pid in pids:
        words = command(pid)
        if not words or any(word in words for word in ASIDE):
            continue
        with contextlib.suppress(OSError):
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            total += sum(map(int, fields[11:15])) * TICK_S
    return total


def marked(mark: str) -> dict[int, str]:
    """Return the living processes of a run: pid → command."""
    wanted = f"{MARK}={mark}".encode()
    commands = {}
    for path in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            if wanted in path.read_bytes().split(b"\0"):
                commands[int(path.parent.name)] = " ".join(command(int(path.parent.name)))
    return commands


def strike(
    process: "subprocess.Popen[bytes]",
    victim: Callable[[], int | None],
    far_enough: Callable[[int], bool],
    draw: random.Random,
) -> int | None:
    """Kill the victim once the run is far enough. Return its pid, or None if the run or the victim ended before."""
    seen, missed = False, 0
    while process.poll() is None and not (seen and missed > MISSES):
        pid = victim()
        seen, missed = seen or pid is not None, 0 if pid is not None else missed + 1
        if pid is not None and far_enough(pid):
            time.sleep(draw.uniform(0, PACE_S))  # so that any moment between two polls can be hit
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
                return pid
        time.sleep(PACE_S)
    return None


def wait_for_end(mark: str, patience_s: float, *, uploader: bool = True) -> dict[int, str]:
    """Wait until no process of a run is left. Return those that are left after `patience_s`.

    Without `uploader`, the uploader of runs to MLflow may stay: it outlives stages and flows on purpose.
    """
    deadline = time.monotonic() + patience_s
    while time.monotonic() < deadline:
        alive = {pid: words for pid, words in marked(mark).items() if uploader or UPLOADER not in words.split()}
        if not alive:
            return {}
        time.sleep(0.5)
    return alive


@contextlib.contextmanager
def swept(mark: str) -> Iterator[None]:
    """Kill all processes of a run at the end of the block."""
    try:
        yield
    finally:
        for pid in marked(mark):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def stage_process(stage: str, root: int, mark: str) -> int | None:
    """Return the process in which a stage works: a child of the fork server, or the one that DVC's shell started."""
    return forked(mark, stage) or find(root, lambda words: is_stage(words, stage))
