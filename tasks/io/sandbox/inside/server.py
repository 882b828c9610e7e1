"""The fork server of a sandbox: `python -m tasks.io.sandbox.inside.server WORK LIMITS`.

It answers messages on descriptor 0 with messages on descriptor 1, fields packed into frames:

    begin                        forks a process for a program, in an empty folder
    run, mode, name, source      answer, … (`Answer`)  or  failed, outcome, detail
    end                          clean, or spent: what the case left cannot be removed, and this server ends

What a test expects is judged on the other side, and is not in this process's memory when it forks.
"""

import gc
import importlib
import json
import os
import shutil
import signal
import sys
from pathlib import Path
from typing import Any

from tasks.io.sandbox.inside.executor import Executor, Failed, adopt_orphans
from tasks.io.sandbox.inside.frames import pack, receive, send, unpack

COMMON = (  # what programs import is imported once, before the forks
    "abc", "argparse", "array", "asyncio", "base64", "bisect", "calendar", "cmath", "collections.abc", "concurrent.futures",
    "contextvars", "copy", "csv", "dataclasses", "datetime", "decimal", "doctest", "enum", "fnmatch", "fractions",
    "functools", "hashlib", "heapq", "html", "inspect", "itertools", "locale", "logging", "numbers", "operator", "pickle",
    "pprint", "queue", "re", "statistics", "string", "struct", "tempfile", "textwrap", "threading", "typing", "unicodedata",
    "unittest", "urllib.parse", "uuid", "weakref", "zlib",
)  # fmt: skip
PROGRAMS_SEE = ("HOME", "LC_ALL", "PYTHONHASHSEED", "TZ")  # of the environment


def main(work: Path, limits: dict[str, Any]) -> None:
    """Serve cases until the other side goes."""
    requests, replies = private_pipes()
    prepare()
    folder = fresh_folder(work)
    send(replies, pack("ready"))
    clean = True
    while clean and receive(requests):
        executor = Executor(limits, folder, requests)
        send(replies, pack("begun"))
        try:
            serve(executor, requests, replies)
        finally:
            executor.end()
        clean = is_clean(work)
        send(replies, pack("clean" if clean else "spent"))


def private_pipes() -> tuple[int, int]:
    """Descriptors 0 and 1 moved away; nothing that a program reads or prints by number gets to them."""
    requests, replies = os.dup(0), os.dup(1)
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)
    return requests, replies


def prepare() -> None:
    """Bring this process to the state that every program starts from."""
    os.umask(0o022)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if os.getpid() != 1:
        adopt_orphans()
    for name in COMMON:
        importlib.import_module(name)
    for name in os.environ.keys() - set(PROGRAMS_SEE):
        del os.environ[name]
    sys.path[:] = [entry for entry in sys.path if not (Path(entry) / "tasks").exists()]
    for name in [name for name in sys.modules if name.partition(".")[0] == "tasks"]:
        del sys.modules[name]
    gc.freeze()


def serve(executor: Executor, requests: int, replies: int) -> None:
    """Run one case's sources as they come, until its end."""
    while message := unpack(receive(requests)):
        if message[0] == "end":
            return
        mode, name, source = message[1:]
        try:
            reply = ("answer", *executor.run(source, mode, name))
        except Failed as failure:
            reply = ("failed", *failure.args)
        send(replies, pack(*reply))


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
