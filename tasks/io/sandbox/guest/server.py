"""The fork server of a sandbox: `python -m tasks.io.sandbox.guest.server WORK LIMITS [MODULE]`.

It imports the module, if one is named, before it forks. It reads commands from descriptor 0, a socket, and replies:

    begin, and two descriptors   begun: a program's process waits in an empty folder; it reads from the first and writes to the second
    status                       running, or the exit code and the seconds of CPU time
    end                          clean; or spent if the files of the case cannot be removed, and then this server ends

No source and no answer passes through this process, so the tests of one case are not in memory that the next case inherits.
"""

import gc
import importlib
import json
import os
import shutil
import signal
import socket
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tasks.io.sandbox.guest import landlock
from tasks.io.sandbox.guest.executor import Executor, adopt_orphans

COMMON = (  # modules that programs often import: imported once, before the forks
    "abc", "argparse", "array", "asyncio", "base64", "bisect", "calendar", "cmath", "collections.abc", "concurrent.futures",
    "contextvars", "copy", "csv", "dataclasses", "datetime", "decimal", "doctest", "enum", "fnmatch", "fractions",
    "functools", "hashlib", "heapq", "html", "inspect", "itertools", "locale", "logging", "numbers", "operator", "pickle",
    "pprint", "queue", "re", "statistics", "string", "struct", "tempfile", "textwrap", "threading", "typing", "unicodedata",
    "unittest", "urllib.parse", "uuid", "weakref", "zlib",
)  # fmt: skip
MOST_WORD = 64  # bytes
PROGRAMS_SEE = ("HOME", "LC_ALL", "PYTHONHASHSEED", "TZ")  # environment variables


def main(work: Path, limits: dict[str, Any], *modules: str) -> None:
    """Serve cases until the client closes the socket."""
    client = private_socket()
    prepare(work, modules)
    folder = fresh_folder(work)
    os.dup2(0, 2)  # until here, stderr tells the host why the server does not start
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
    """Move the socket away from descriptor 0, so that reading standard input does not reach it."""
    client = socket.socket(fileno=os.dup(0))
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1):
        os.dup2(null, descriptor)
    return client


def await_case(client: socket.socket) -> list[int]:
    """Wait for the next case and return its descriptors; none if the client has closed the socket."""
    descriptors = socket.recv_fds(client, MOST_WORD, 2)[1]
    for descriptor in descriptors:
        os.set_inheritable(descriptor, False)
    return descriptors


def prepare(work: Path, modules: Iterable[str]) -> None:
    """Prepare the state of this process, from which every program's process is forked."""
    os.umask(0o022)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if os.getpid() == 1:  # in a namespace of its own
        landlock.restrict(work)
    else:
        adopt_orphans()
    for name in (*COMMON, *modules):
        importlib.import_module(name)
    for name in os.environ.keys() - set(PROGRAMS_SEE):
        del os.environ[name]
    sys.path[:] = [entry for entry in sys.path if not (Path(entry) / "tasks").exists()]
    for name in [name for name in sys.modules if name.partition(".")[0] == "tasks"]:
        del sys.modules[name]
    gc.freeze()


def watch(executor: Executor, client: socket.socket) -> None:
    """Reply to `status` commands until another command comes or the client closes the socket."""
    while client.recv(MOST_WORD) == b"status":
        client.send((executor.status() or "running").encode())


def is_clean(work: Path) -> bool:
    """Empty the folder for the next case; False if that fails."""
    try:
        fresh_folder(work)
    except (OSError, RecursionError):
        return False
    return True


def fresh_folder(work: Path) -> Path:
    """Empty `work` and return a new folder in it, the only one that a case may write to."""
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
    main(Path(sys.argv[1]), json.loads(sys.argv[2]), *sys.argv[3:])
