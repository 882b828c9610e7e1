"""The memory that processes hold together, seen from the host: inside a sandbox there is no /proc to ask.

The kernel limits the address space of each process, but of several at once only where control groups may be made. So they are
looked at every 50 ms, and ended when they hold too much. Between two looks they can add what the machine lets them touch in that time,
a few hundred MB; in no case can they hold more than `processes` times `memory_mb`, which is 4 GB with the default limits.
"""

import os
from pathlib import Path

PROC = Path("/proc")


def can_be_watched() -> bool:
    """Whether the kernel says whose child a process is and what it holds. Without either, several would seem to hold nothing."""
    own = PROC / "self"
    return (own / "task" / str(os.getpid()) / "children").exists() and (own / "smaps_rollup").exists()


def children(process: int) -> list[int]:
    """The processes whose parent it is; none where the system does not say."""
    found: list[int] = []
    for task in PROC.glob(f"{process}/task/*/children"):
        try:
            found += map(int, task.read_text().split())
        except OSError:
            continue  # it has just ended
    return found


def family(process: int) -> list[int]:
    """It and all its descendants."""
    found = [process]
    for member in found:
        found += children(member)
    return found


def held(processes: list[int]) -> int:
    """Bytes; what several processes share counts once."""
    return sum(map(proportional, processes))


def proportional(process: int) -> int:
    """The process's own memory in bytes, and its part of what it shares; 0 if it has ended."""
    try:
        lines = (PROC / str(process) / "smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return 1024 * sum(int(line.split()[1]) for line in lines if line.startswith(("Pss:", "SwapPss:")))
