"""Command lines that start a sandbox's server, one for each kind of isolation."""

import dataclasses
import json
import os
from pathlib import Path
from typing import IO, TYPE_CHECKING

from tasks.io.sandbox import seccomp
from tasks.io.sandbox.guest import landlock
from tasks.io.sandbox.layout import (
    DEVICES,
    ENVIRONMENT,
    GUEST,
    PYTHON_FLAGS,
    SERVER,
    WORK,
    folders_of,
    host_interpreter,
    layout,
    module_of,
)
from tasks.io.sandbox.records import Limits

if TYPE_CHECKING:  # separate processes run these; imported here so that a stage's code digest includes them
    from tasks.io.sandbox import namespaces as _namespaces  # noqa: F401
    from tasks.io.sandbox.guest import server as _server  # noqa: F401

LOADING = ("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")
FULL_SIZE_FILES = 4  # files of the largest size that fit into the work folder


def bubblewrap(limits: Limits, rules: IO[bytes], package: str) -> list[str]:
    """Return bwrap's command line for the layout, and write the system-call filter that bwrap reads to `rules`.

    bubblewrap is the second choice. It limits the size of the work folder but not the number of its files, which only the time limit
    bounds. It allows a loader to map a file that a program wrote, but the filter and Landlock apply to that file as well. It cannot make
    a device writable and its times read-only, so this filter refuses to change the times of any file.
    """
    rules.write(seccomp.program(times=False))
    rules.seek(0)
    parts = layout(package)
    command = ["bwrap", "--unshare-all", "--as-pid-1", "--die-with-parent", "--new-session", "--cap-drop", "ALL"]
    command += ["--uid", "65534", "--gid", "65534", "--hostname", "sandbox", "--clearenv"]
    for name, value in ENVIRONMENT.items():
        command += ["--setenv", name, value]
    for bind in parts.binds:
        command += ["--ro-bind", str(bind.source), str(bind.target)]
    for device in DEVICES:
        command += ["--dev-bind", str(device), str(device)]
    for mask in parts.masks:
        command += ["--tmpfs", str(mask), "--remount-ro", str(mask)]
    command += ["--size", str(FULL_SIZE_FILES * limits.file_bytes), "--tmpfs", str(WORK), "--chdir", str(WORK)]
    command += ["--remount-ro", "/", "--seccomp", str(rules.fileno())]
    return [*command, *parts.command, *arguments(limits, package)]


def arguments(limits: Limits, package: str) -> list[str]:
    """Return the last arguments of the server: the limits and, if `package` is named, the module that it imports before it forks."""
    return [json.dumps(dataclasses.asdict(limits)), *module_of(package)]


def namespaces(limits: Limits, package: str) -> list[str]:
    """Return the command line of `namespaces.py` with its plan.

    Raises RuntimeError if the kernel has no Landlock, which our own launcher needs as a second barrier.
    """
    if not landlock.version():
        raise RuntimeError("this kernel has no Landlock")
    parts = layout(package)
    plan = {
        "binds": [(str(bind.source), str(bind.target)) for bind in parts.binds],
        "devices": [str(device) for device in DEVICES],
        "masks": [str(mask) for mask in parts.masks],
        "work": str(WORK),
        "bytes": FULL_SIZE_FILES * limits.file_bytes,
        "filter": seccomp.program().hex(),
        "command": [*parts.command, *arguments(limits, package)],
        "environment": ENVIRONMENT,
    }
    launcher = Path(__file__).with_name("namespaces.py")
    return [str(host_interpreter()), "-I", "-S", "-B", str(launcher), json.dumps(plan)]


def bare(limits: Limits, folder: Path, package: str) -> list[str]:
    """Return the command line of the server without isolation; its modules and its work folder are in `folder`."""
    modules, work = folder / "server", folder / "work"
    (modules / GUEST).parent.mkdir(parents=True)
    (modules / GUEST).symlink_to(Path(__file__).with_name(GUEST.name))
    work.mkdir()
    return [str(host_interpreter()), *PYTHON_FLAGS, *SERVER, str(work), *arguments(limits, package)]


def bare_environment(folder: Path, package: str) -> dict[str, str]:
    """Return the environment for `bare`: paths in `folder` and of the distribution, and the variables that the dynamic loader may need."""
    loading = {name: os.environ[name] for name in LOADING if name in os.environ}
    modules = os.pathsep.join([str(folder / "server"), *folders_of(package)])
    return ENVIRONMENT | loading | {"HOME": str(folder / "work"), "PYTHONPATH": modules}
