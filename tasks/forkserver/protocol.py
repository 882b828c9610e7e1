"""The protocol of the fork server: its socket, its messages, and the fingerprint by which a server is stale."""

import hashlib
import json
import os
import socket
import sys
import sysconfig
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

SOCKET = Path(".ratchet/forkserver.sock")
"""Relative to the workspace: the path of a Unix socket may have 107 bytes."""
STARTING = Path(".ratchet/forkserver.starting.sock")
"""The socket while the server imports: who asks there has an answer once it is ready."""
CODE = Path(__file__).resolve().parents[1]
"""The code of stages: package `tasks`."""
DRIVERS = Path(".ratchet/forkserver.driver")
"""Names the `dvc repro` that has run a stage last, twice where a server was started for it."""
SWITCH = "RATCHET_FORKSERVER"
"""Set to 0, every stage runs in a process of its own, and no fork server is started."""
PROGRAMS = {"tasks.run": "tasks.runner:main", "tasks.run_trial": "tasks.run_trial:run"}
"""What `python -m` runs otherwise → the function that a child calls, with the arguments."""
NAME = "forkserver"
"""The name of the server's process, by which `ps` and `top` show it; a child has the name of its stage."""
DRIVER = "RATCHET_DRIVER"
"""The process whose stages a fork server serves, where it is not the parent of the stage. The server ends with it."""
OURS = "RATCHET_"
"""How the environment variables of this project begin. They differ between the flow and its stages, and no library reads them when it is
imported: a child gets those of its client.
"""
VARIES = frozenset({"CUDA_VISIBLE_DEVICES"})
"""Variables of libraries that are read after their import: a child gets those of its client."""
SHELL = frozenset({"_", "SHLVL", "PWD", "OLDPWD", "COLUMNS", "LINES", "PS1"})
"""Variables that shells change between two commands."""
LENGTH = 8
"""Bytes before a message that say how long it is."""


def stage_name(arguments: Sequence[str]) -> str:
    """Return the name of the process of a stage: as much of `tune@r0` as the kernel keeps."""
    return "@".join(arguments)[:15]


def fingerprint(environment: Mapping[str, str]) -> str:
    """Return a digest of all that a warm process has in memory: the project's code, settings, packages, and the environment.

    The interpreter is known by its environment: a venv has the same one as `python` and `python3`. Files are compared by size and time of
    change. DVC sets variables for its commands, none of which a library reads.
    """
    files = sorted([*CODE.rglob("*.py"), Path("params.yaml"), Path(sysconfig.get_path("purelib"))])
    stats = [(str(file), file.stat().st_size, file.stat().st_mtime_ns) for file in files if file.exists()]
    fixed = sorted(
        (name, value)
        for name, value in environment.items()
        if name not in VARIES | SHELL and not name.startswith((OURS, "DVC_"))
    )
    return hashlib.sha256(json.dumps([sys.prefix, sys.version, str(Path.cwd()), stats, fixed]).encode()).hexdigest()


def send(connection: socket.socket, message: Mapping[str, Any], files: tuple[int, ...] = ()) -> None:
    """Send a message, with open files of this process where it names any."""
    data = json.dumps(message).encode()
    whole = len(data).to_bytes(LENGTH, "big") + data
    sent = socket.send_fds(connection, [whole], list(files)) if files else 0
    connection.sendall(whole[sent:])


def receive(connection: socket.socket, files: int = 0) -> tuple[dict[str, Any], list[int]] | None:
    """Receive a message and up to `files` open files; None where the other side has gone."""
    data, received = b"", list[int]()
    while len(data) < LENGTH or len(data) < LENGTH + int.from_bytes(data[:LENGTH], "big"):
        try:
            chunk, new, _flags, _address = socket.recv_fds(connection, 65_536, files)
        except ConnectionResetError:
            chunk, new = b"", []
        received += new
        if not chunk:
            for file in received:
                os.close(file)
            return None
        data += chunk
    return json.loads(data[LENGTH:]), received
