"""The fork server of a sandbox: `python -m tasks.io.sandbox.inside.server WORK LIMITS`.

It answers words on descriptor 0, a socket, with words:

    begin, and two descriptors   begun: a process for a program stands in an empty folder; it reads the one and writes the other
    status                       running, or: its exit code and its seconds of CPU time
    end                          clean, or spent: what the case left cannot be removed, and this server ends

No source and no answer passes through this process: what one case was tested with is not in the memory that the next one gets.
"""

import gc
import importlib
import json
import os
import shutil
import signal
import socket
import sys
from pathlib import Path
from typing import Any

from tasks.io.sandbox.inside import landlock
from tasks.io.sandbox.inside.executor import Executor, adopt_orphans

COMMON = (  # what programs import is imported once, before the forks
    "abc", "argparse", "array", "asyncio", "base64", "bisect", "calendar", "cmath", "collections.abc", "concurrent.futures",
    "contextvars", "copy", "csv", "dataclasses", "datetime", "decimal", "doctest", "enum", "fnmatch", "fractions",
    "functools", "hashlib", "heapq", "html", "inspect", "itertools", "locale", "logging", "numbers", "operator", "pickle",
    "pprint", "queue", "re", "statistics", "string", "struct", "tempfile", "textwrap", "threading", "typing", "unicodedata",
    "unittest", "urllib.parse", "uuid", "weakref", "zlib",
)  # fmt: skip
MOST_WORD = 64  # bytes
PROGRAMS_SEE = ("HOME", "LC_ALL", "PYTHONHASHSEED", "TZ")  # of the environment


def main(work: Path, limits: dict[str, Any]) -> None:
    """Serve cases until the other side goes."""
    client = private_socket()
    prepare(work)
    folder = fresh_folder(work)
    client.send(b"ready")
    clean = True
    while clean and (descriptors := await_case(client)):
        executor = Executor(limits, folder, *descriptors)
        client.send(b"begun")
        try:
            watch(executor, client)
        finally:
            executor.end()
        clean = is_clean(work)
        client.send(b"clean" if clean else b"spent")


def private_socket() -> socket.socket:
    """Descriptor 0 moved away: nothing that a program reads or prints by number gets to it."""
    client = socket.socket(fileno=os.dup(0))
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)
    return client


def await_case(client: socket.socket) -> list[int]:
    """The descriptors that come with the next case; none when the other side has gone."""
    descriptors = socket.recv_fds(client, MOST_WORD, 2)[1]
    for descriptor in descriptors:
        os.set_inheritable(descriptor, False)
    return descriptors


def prepare(work: Path) -> None:
    """Bring this process to the state that every program starts from."""
    os.umask(0o022)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if os.getpid() == 1:  # in a namespace of its own
        landlock.restrict(work)
    else:
        adopt_orphans()
    for name in COMMON:
        importlib.import_module(name)
    for name in os.environ.keys() - set(PROGRAMS_SEE):
        del os.environ[name]
    sys.path[:] = [entry for entry in sys.path if not (Path(entry) / "tasks").exists()]
    for name in [name for name in sys.modules if name.partition(".")[0] == "tasks"]:
        del sys.modules[name]
    gc.freeze()


def watch(executor: Executor, client: socket.socket) -> None:
    """Say how the case's process is, until it is to end or nobody asks any more."""
    while client.recv(MOST_WORD) == b"status":
        client.send((executor.status() or "running").encode())


def is_clean(work: Path) -> bool:
    """Whether the folder could be emptied for the next case."""
    try:
        fresh_folder(work)
    except (OSError, RecursionError):
        return False
    return True


def fresh_folder(work: Path) -> Path:
    """The one folder that a case may write to, empty, with nothing beside it."""
    work.chmod(0o700)
    for entry in list(os.scandir(work)):
        if entry.is_dir(follow_symlinks=False):
            shutil.rmtree(entry.path)
        else:
            Path(entry.path).unlink()
    folder = work / "case"
    folder.mkdir()
    return folder


if __name__ == "__main__":
    main(Path(sys.argv[1]), json.loads(sys.argv[2]))
