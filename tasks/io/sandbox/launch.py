"""The command lines that start a sandbox's server, one for each kind of isolation."""

import dataclasses
import json
import os
from pathlib import Path
from typing import IO, TYPE_CHECKING

from tasks.io.sandbox import seccomp
from tasks.io.sandbox.inside import landlock
from tasks.io.sandbox.layout import (
    DEVICES,
    ENVIRONMENT,
    INSIDE,
    PYTHON_FLAGS,
    SERVER,
    WORK,
    host_interpreter,
    layout,
)
from tasks.io.sandbox.records import Limits

if TYPE_CHECKING:  # run by path, in processes of their own: named here, so that a stage's code includes them
    from tasks.io.sandbox import namespaces as _namespaces  # noqa: F401
    from tasks.io.sandbox.inside import server as _server  # noqa: F401

LOADING = ("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")
FILES_A_CASE = 4  # each of the largest size


def bubblewrap(limits: Limits, rules: IO[bytes]) -> list[str]:
    """bwrap, with the layout spelt out; it reads the system-call filter from `rules`, which is written here.

    It is the second choice: it limits the size of the work folder but not the number of its files (time does), and lets a loader map
    what a program wrote there (the filter and Landlock hold for that as well). It cannot show a device that may be written to but not be
    given another time, so no file gets one here.
    """
    rules.write(seccomp.program(times=False))
    rules.seek(0)
    parts = layout()
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
    command += ["--size", str(FILES_A_CASE * limits.file_bytes), "--tmpfs", str(WORK), "--chdir", str(WORK)]
    command += ["--remount-ro", "/", "--seccomp", str(rules.fileno())]
    return [*command, *parts.command, limits_of(limits)]


def limits_of(limits: Limits) -> str:
    """The last argument of the server."""
    return json.dumps(dataclasses.asdict(limits))


def namespaces(limits: Limits) -> list[str]:
    """The launcher of `namespaces.py` and its plan. RuntimeError without Landlock, the second wall around what is ours alone."""
    if not landlock.version():
        raise RuntimeError("this kernel has no Landlock")
    parts = layout()
    plan = {
        "binds": [(str(bind.source), str(bind.target)) for bind in parts.binds],
        "devices": [str(device) for device in DEVICES],
        "masks": [str(mask) for mask in parts.masks],
        "work": str(WORK),
        "bytes": FILES_A_CASE * limits.file_bytes,
        "filter": seccomp.program().hex(),
        "command": [*parts.command, limits_of(limits)],
        "environment": ENVIRONMENT,
    }
    launcher = Path(__file__).with_name("namespaces.py")
    return [str(host_interpreter()), "-I", "-S", "-B", str(launcher), json.dumps(plan)]


def bare(limits: Limits, folder: Path) -> list[str]:
    """The server with nothing around it; its modules and its work folder stand in `folder`."""
    modules, work = folder / "server", folder / "work"
    (modules / INSIDE).parent.mkdir(parents=True)
    (modules / INSIDE).symlink_to(Path(__file__).with_name(INSIDE.name))
    work.mkdir()
    return [str(host_interpreter()), *PYTHON_FLAGS, *SERVER, str(work), limits_of(limits)]


def bare_environment(folder: Path) -> dict[str, str]:
    """The environment inside, at this folder's paths, and what the interpreter may need to start."""
    loading = {name: os.environ[name] for name in LOADING if name in os.environ}
    return ENVIRONMENT | loading | {"HOME": str(folder / "work"), "PYTHONPATH": str(folder / "server")}
