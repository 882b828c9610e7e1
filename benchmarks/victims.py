"""The processes of a run, known by a mark in their environment: which is which, how far they have come, and who is left. Linux."""

import contextlib
import os
import random
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

MARK = "RATCHET_CHAOS"
"""An environment variable that every process of a run inherits, whoever its parent is by now."""
PACE_S = 0.1
MISSES = 3
"""So often in a row a victim is not found before it counts as gone: the kernel's list of children has gaps while some end."""
TICK_S = 1 / os.sysconf("SC_CLK_TCK")
CARRIER = "tasks.io.carrier"
ASIDE = (CARRIER, "server")
"""Processes whose work tells nothing of how far a run has come."""


def command(pid: int) -> list[str]:
    """The command line of a process; empty where it is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")[:-1]
    except OSError:
        return []


def is_stage(words: list[str], stage: str) -> bool:
    """Whether this is the runner of a stage, and not the shell around it."""
    return words[1:3] == ["-m", "tasks.run"] and words[3:] == stage.split("@")


def is_dvc(words: list[str], stage: str) -> bool:
    """Whether this is the DVC of a flow that sees to one stage."""
    return words[1:3] == ["-m", "dvc"] and words[-1:] == [stage]


def is_supervisor(words: list[str], stage: str) -> bool:
    """Whether this stands between a flow and the DVC of a stage."""
    return [Path(word).name for word in words[2:3]] == ["supervisor.py"] and words[-1:] == [stage]


def is_flow(words: list[str]) -> bool:
    """Whether this is a flow that a deployment runs."""
    return words[1:3] == ["-m", "prefect.engine"]


def is_server(words: list[str]) -> bool:
    """Whether this is the process of a Prefect server that answers."""
    return "uvicorn" in words or words[2:4] == ["prefect", "server"]


def below(root: int) -> Iterator[int]:
    """A process and all below it, the nearest first. Asks the kernel for children alone, as it is asked many times a second."""
    waiting = [root]
    for pid in waiting:
        yield pid
        with contextlib.suppress(OSError):  # a process may end at any of these moments
            for thread in Path(f"/proc/{pid}/task").iterdir():
                waiting += map(int, (thread / "children").read_text().split())


def find(root: int, wanted: Callable[[list[str]], bool]) -> int | None:
    """The first process at or below `root` whose command line is as wanted."""
    return next((pid for pid in below(root) if wanted(command(pid))), None)


def work_s(root: int) -> float:
    """CPU seconds of a process and all below it, those that ended included; carriers and servers left out."""
    total = 0.0
    for pid in below(root):
        words = command(pid)
        if not words or any(word in words for word in ASIDE):
            continue
        with contextlib.suppress(OSError):
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            total += sum(map(int, fields[11:15])) * TICK_S
    return total


def marked(mark: str) -> dict[int, str]:
    """The living processes of a run: pid → command."""
    wanted = f"{MARK}={mark}".encode()
    found = {}
    for path in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            if wanted in path.read_bytes().split(b"\0"):
                found[int(path.parent.name)] = " ".join(command(int(path.parent.name)))
    return found


def strike(
    process: "subprocess.Popen[bytes]",
    victim: Callable[[], int | None],
    far_enough: Callable[[int], bool],
    draw: random.Random,
) -> int | None:
    """Kill the victim once the run has come far enough; its pid, or None where the run or the victim was over before."""
    seen, missed = False, 0
    while process.poll() is None and not (seen and missed > MISSES):
        pid = victim()
        seen, missed = seen or pid is not None, 0 if pid is not None else missed + 1
        if pid is not None and far_enough(pid):
            time.sleep(draw.uniform(0, PACE_S))  # no moment between two looks is spared
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
                return pid
        time.sleep(PACE_S)
    return None


def gone(mark: str, patience_s: float, *, carrier: bool = True) -> dict[int, str]:
    """Wait until no process of a run is left; those that are there when patience ends.

    Without `carrier`, the one that takes runs to MLflow may stay: it outlives stages and flows on purpose, and serves the next.
    """
    deadline = time.monotonic() + patience_s
    while time.monotonic() < deadline:
        left = {pid: words for pid, words in marked(mark).items() if carrier or CARRIER not in words.split()}
        if not left:
            return {}
        time.sleep(0.5)
    return left


@contextlib.contextmanager
def swept(mark: str) -> Iterator[None]:
    """Whatever is left of a run when this is left is killed."""
    try:
        yield
    finally:
        for pid in marked(mark):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
