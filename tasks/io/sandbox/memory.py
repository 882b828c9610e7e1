"""Measure on the host the memory that several processes hold together, because a sandbox has no /proc.

The kernel limits the address space of each process. It limits the sum over several processes only by control groups, which need
privileges. So the sum is measured every 50 ms, and the processes are killed if it is too large. Between two measurements they can
allocate a few hundred MB more. They never hold more than `processes` times `memory_mb`, which is 4 GB with the default limits.
"""

import os
from pathlib import Path

PROC = Path("/proc")


def can_be_watched() -> bool:
    """Return True if the kernel lists the children and the memory of a process.

    Without both, the sum would read as 0.
    """
    proc_self = PROC / "self"
    return (proc_self / "task" / str(os.getpid()) / "children").exists() and (proc_self / "smaps_rollup").exists()


def children(process: int) -> list[int]:
    """Return the process ids of the children of a process; none if the system does not list them."""
    pids: list[int] = []
    for task in PROC.glob(f"{process}/task/*/children"):
        try:
            pids += map(int, task.read_text().split())
        except OSError:
            continue  # it has just ended
    return pids


def family(process: int) -> list[int]:
    """Return the process ids of a process and all its descendants."""
    pids = [process]
    for member in pids:
        pids += children(member)
    return pids


def held(processes: list[int]) -> int:
    """Return the bytes that the processes hold together; shared memory counts once."""
    return sum(map(proportional, processes))


def proportional(process: int) -> int:
    """Return the proportional set size (PSS) of the process in bytes, swap included; 0 if it has ended."""
    try:
        lines = (PROC / str(process) / "smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return 1024 * sum(int(line.split()[1]) for line in lines if line.startswith(("Pss:", "SwapPss:")))
