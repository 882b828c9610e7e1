"""The process of a program: it runs the sources that arrive over the pipe, one by one, in one namespace.

Nothing here is trusted: the program can read, patch or replace all of it. The tests are judged in another process.
"""

import __future__

import io
import math
import os
import random
import resource
import signal
import sys
import traceback
import types
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from tasks.io.sandbox.guest.frames import pack, receive, send, unpack
from tasks.io.sandbox.guest.values import encode

FILE = "solution.py"
PRINTED_TOO_MUCH = 77  # an exit code
MOST_DESCRIPTORS = 64
MOST_TEXT = 10_000  # characters of an exception
FUTURE: dict[str, Any] = {name: getattr(__future__, name) for name in __future__.all_feature_names}


class Answer(NamedTuple):
    """Result of running one source."""

    phase: str
    """Phase in which it failed: `compile` or `run`; empty if it did not fail."""
    kind: str
    """Kind of verdict that the exception leads to; empty if there was no exception."""
    error: str
    """Last lines of the traceback."""
    output: str
    """Printed output."""
    value: str
    """Encoded value of an expression; empty for statements."""


class Spool(io.StringIO):
    """Standard output in memory. Printing more than the limit ends the process."""

    def __init__(self, limit: int) -> None:
        super().__init__()
        self.limit = limit

    def write(self, text: str) -> int:
        if self.tell() + len(text) > self.limit:
            os._exit(PRINTED_TOO_MUCH)
        return super().write(text)


def become_program(limits: dict[str, Any], folder: Path, requests: int, answers: int, alone: bool) -> NoReturn:
    """Turn this fork of the server into the program's process, which has the two pipes open and nothing else; never returns."""
    try:
        os.setsid()
        signal.signal(signal.SIGINT, signal.default_int_handler)
        close_all_but(requests, answers)
        os.chdir(folder)
        restrict(limits, alone)
        sys.argv = [FILE]
        random.seed(0)
        answer_requests(requests, answers, limits["output_bytes"])
    finally:
        os._exit(1)


def close_all_but(*kept: int) -> None:
    """Close every descriptor that the server has open, except these."""
    start = 3
    for descriptor in sorted(kept):
        os.closerange(start, descriptor)
        start = descriptor + 1
    os.closerange(start, start + 256)


def restrict(limits: dict[str, Any], alone: bool) -> None:
    """Set the kernel's limits on this process.

    `alone`: also limit the number of processes, because it runs in a namespace that counts only those of the sandbox.
    """
    cap(resource.RLIMIT_CPU, math.ceil(limits["cpu_s"]), spare=1)
    cap(resource.RLIMIT_FSIZE, limits["file_bytes"])
    cap(resource.RLIMIT_NOFILE, MOST_DESCRIPTORS)
    # With a limit of 0 some hosts still start their crash handler, outside the sandbox; with a limit of 1 byte they do not.
    cap(resource.RLIMIT_CORE, 1)
    if sys.platform == "linux":
        cap(resource.RLIMIT_AS, limits["memory_mb"] << 20)
        cap(resource.RLIMIT_MEMLOCK, 0)
    if alone:
        cap(resource.RLIMIT_NPROC, limits["processes"] + 2)  # besides them, the server and the launcher count


def cap(which: int, value: int, spare: int = 0) -> None:
    """Lower a limit permanently: the soft limit to `value`, the hard limit to `spare` above it."""
    hard = resource.getrlimit(which)[1]
    most = value + spare if hard == resource.RLIM_INFINITY else min(value + spare, hard)
    resource.setrlimit(which, (min(value, most), most))


def answer_requests(requests: int, answers: int, output_limit: int) -> None:
    """Run every source that arrives. Bind the needed functions to local names first, because a program can patch modules."""
    module = types.ModuleType("solution")
    sys.modules["solution"] = sys.modules["__main__"] = module
    pid, process, run, take, give, fields, payload = (
        os.getpid(),
        os.getpid,
        attempt,
        receive,
        send,
        unpack,
        pack,
    )
    while request := take(requests):
        token, mode, name, source = fields(request)
        answer = run(source, mode, name, module.__dict__, output_limit)
        if process() != pid:
            return  # this process is a fork that the program made
        give(answers, payload(token, *answer))


def attempt(source: str, mode: str, name: str, namespace: dict[str, Any], output_limit: int) -> Answer:
    """Compile and run one source."""
    sys.stdout = spool = Spool(output_limit)
    phase, kind, text, value = "compile", "", "", ""
    try:
        code = compile(source, name, mode, future_flags(namespace), True)
        phase = "run"
        result = eval(code, namespace)  # None for statements
        value = encode(result) if mode == "eval" else ""
        phase = ""
    except BaseException as error:  # SystemExit and KeyboardInterrupt are failures of the program like any other
        kind = kind_of(error)
        text = "".join(traceback.format_exception_only(error))[:MOST_TEXT]
        if isinstance(error, SyntaxError):
            text = text.splitlines(keepends=True)[-1]  # without the lines that show the place
    return Answer(phase, kind, text, spool.getvalue(), value)


def kind_of(error: BaseException) -> str:
    """Return the kind of verdict that an exception leads to."""
    kinds = {AssertionError: "assertion", ImportError: "import", MemoryError: "memory"}
    return next((kind for exception, kind in kinds.items() if isinstance(error, exception)), "exception")


def future_flags(namespace: dict[str, Any]) -> int:
    """Return compiler flags for the program's imports from `__future__`, which apply to its tests too."""
    return sum(
        feature.compiler_flag for name, feature in FUTURE.items() if name in namespace and namespace[name] is feature
    )
