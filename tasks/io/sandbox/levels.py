"""Levels of isolation: the best one that this machine offers, and the command that would enable a better one.

- 4, a machine of its own (gVisor, a micro-VM): not built.
- 3, level 2 with a control group: not built.
- 2, namespaces, a root file system that holds only Python, a system-call filter, and Landlock: for programs that a model wrote.
  If our launcher cannot create these, bubblewrap creates namespaces and root, and Landlock is added if the kernel has it.
- 1, a subprocess with limits: for code that the user has installed anyway.
"""

import os
import platform
import shutil
import sys
from functools import cache
from pathlib import Path

from tasks.io.sandbox import memory, seccomp
from tasks.io.sandbox.guest import landlock
from tasks.io.sandbox.process import Sandbox
from tasks.io.sandbox.records import Isolation, Level, Limits

SYSCTL = Path("/proc/sys")
SWITCHES = {  # settings by which distributions disable namespaces: the disabling value, the enabling value
    "kernel/unprivileged_userns_clone": ("0", "1"),
    "kernel/apparmor_restrict_unprivileged_userns": ("1", "0"),
    "user/max_user_namespaces": ("0", "10000"),
}
CONTAINER_MARKS = (Path("/.dockerenv"), Path("/run/.containerenv"))
INSTALL = {"apt-get": "install -y", "dnf": "install -y", "zypper": "install -y", "apk": "add", "pacman": "-S"}


@cache
def probe() -> Level:
    """Return the best isolation of this machine. Start a sandbox to find it, because system settings alone do not show what works."""
    if sys.platform != "linux":
        what_would_do = "run Ratchet on Linux, or in WSL"
        if os.name == "posix":
            return Level(1, "limits", "Linux namespaces; not run: no sandbox", what_would_do)
        return Level(0, "none", "everything that holds a process to limits; not run: no sandbox", what_would_do)
    missing = []
    for name in candidates():
        try:
            Sandbox(name, Limits()).close()
        except RuntimeError as error:
            missing.append(f"{name} ({error})")
        else:
            return Level(2, name, walls=walls())
    return Level(1, "limits", " and ".join(missing), remedy())


def candidates() -> tuple[Isolation, ...]:
    """Return the ways to level 2, the stronger one first."""
    return ("namespaces", "bubblewrap") if shutil.which("bwrap") else ("namespaces",)


def walls() -> tuple[str, ...]:
    """Return the mechanisms of level 2 on this machine."""
    known = landlock.version()
    return ("own namespaces", "own root", "system-call filter", *([f"Landlock {known}"] if known else []))


def remedy() -> str:
    """Return the command that is most likely to enable level 2."""
    if platform.machine() not in seccomp.ARCHITECTURES:
        return f"run Ratchet on {' or '.join(seccomp.ARCHITECTURES)}"
    if not memory.can_be_watched():
        return "run Ratchet on a kernel that has CONFIG_PROC_CHILDREN and CONFIG_PROC_PAGE_MONITOR"
    if any(mark.exists() for mark in CONTAINER_MARKS):
        return "docker run --security-opt seccomp=unconfined --security-opt apparmor=unconfined … (this is a container)"
    for switch, (off, on) in SWITCHES.items():
        path = SYSCTL / switch
        if path.exists() and path.read_text().strip() == off:
            return f"sudo sysctl -w {switch.replace('/', '.')}={on}"
    tool = next((tool for tool in INSTALL if shutil.which(tool)), "apt-get")
    return f"sudo {tool} {INSTALL[tool]} bubblewrap"


def demand(minimum: int) -> Level:
    """Return the machine's level. Raises RuntimeError if it is below `minimum`."""
    level = probe()
    if level.number < minimum:
        raise RuntimeError(
            f"These programs need a sandbox of level {minimum}; this machine gives level {level.number} ({level.name}). "
            f"Missing: {level.missing or 'an isolation stronger than this package builds'}."
            + (f" What would do: {level.remedy}" if level.remedy else "")
        )
    return level
