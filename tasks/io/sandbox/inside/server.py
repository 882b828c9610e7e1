"""The fork server of a sandbox: `python -m tasks.io.sandbox.inside.server WORK`.

Cases come in on descriptor 0, verdicts go out on 1, each a length and JSON. Every case gets a fork and an empty folder;
after it no process and no file is left, or this server ends and says that it must be replaced.
"""

import gc
import importlib
import json
import os
import re
import shutil
import signal
import sys
from pathlib import Path
from typing import Any

from tasks.io.sandbox.inside.executor import Executor, Failed, adopt_orphans
from tasks.io.sandbox.inside.frames import receive, send
from tasks.io.sandbox.inside.judge import judge

COMMON = """abc argparse array asyncio base64 bisect calendar cmath collections.abc concurrent.futures contextvars copy csv
dataclasses datetime decimal enum fnmatch fractions functools hashlib heapq html inspect itertools locale logging numbers
operator pickle pprint queue statistics string struct tempfile textwrap threading typing unicodedata unittest urllib.parse
uuid weakref zlib""".split()  # what programs import is imported once, before the forks
OURS = ("LD_LIBRARY_PATH", "MALLOC_ARENA_MAX", "PYTHONPATH", "PYTHONUTF8")
DETAIL = 300


def main(work: Path) -> None:
    """Serve cases until the other side goes."""
    requests, replies = private_pipes()
    prepare()
    folder = fresh_folder(work)
    send(replies, json.dumps({"ready": True}).encode())
    clean = True
    while clean and (request := receive(requests)):
        verdict = serve(json.loads(request), folder, requests)
        try:
            fresh_folder(work)
        except (OSError, RecursionError):
            clean = False  # what the case left cannot be removed
        send(replies, json.dumps(verdict | {"last": not clean}).encode())


def private_pipes() -> tuple[int, int]:
    """Descriptors 0 and 1 moved away; nothing that a program reads or prints by number gets to them."""
    requests, replies = os.dup(0), os.dup(1)
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)
    return requests, replies


def prepare() -> None:
    """Bring this process to the state that every program starts from."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if os.getpid() != 1:
        adopt_orphans()
    for name in COMMON:
        importlib.import_module(name)
    for name in OURS:
        os.environ.pop(name, None)
    sys.path[:] = [entry for entry in sys.path if not (Path(entry) / "tasks").exists()]
    for name in [name for name in sys.modules if name.partition(".")[0] == "tasks"]:
        del sys.modules[name]
    gc.freeze()


def fresh_folder(work: Path) -> Path:
    """The one folder that a case may write to, empty, with nothing beside it."""
    for entry in list(os.scandir(work)):
        if entry.is_dir(follow_symlinks=False):
            shutil.rmtree(entry.path)
        else:
            Path(entry.path).unlink()
    folder = work / "case"
    folder.mkdir()
    return folder


def serve(case: dict[str, Any], folder: Path, client: int) -> dict[str, Any]:
    """The verdict on one case."""
    executed = 0
    executor = Executor(case["limits"], folder, client)
    try:
        for _ in judge(case, executor):
            executed += 1
        outcome, detail = ("passed", "") if executed else ("untested", "no expectation was executed")
    except Failed as failure:
        outcome, detail = failure.args
    finally:
        executor.end()
    return {"outcome": outcome, "executed": executed, "detail": tidy(detail, folder)}


def tidy(detail: str, folder: Path) -> str:
    """The last line, without what differs from run to run or from machine to machine."""
    line = (detail.strip().splitlines() or [""])[-1]
    line = line.replace(str(folder), ".").replace(sys.prefix, "/python")
    return re.sub(r"0x[0-9a-fA-F]+", "0x…", line)[:DETAIL]


if __name__ == "__main__":
    main(Path(sys.argv[1]))
