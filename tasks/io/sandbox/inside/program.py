"""The process that holds a program: it runs the sources that the judge sends, one by one, in one namespace.

Nothing here is trusted. The program may patch, read or replace all of it; the judge, in another process, knows that.
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

from tasks.io.sandbox.inside.frames import pack, receive, send, unpack
from tasks.io.sandbox.inside.values import encode

FILE = "solution.py"
PRINTED_TOO_MUCH = 77  # an exit status
MOST_DESCRIPTORS = 64
MOST_TEXT = 10_000  # characters of an exception
FUTURE: dict[str, Any] = {name: getattr(__future__, name) for name in __future__.all_feature_names}


class Answer(NamedTuple):
    """What running one source led to."""

    stage: str
    """Where it failed: `compile`, `run`; empty where it did not."""
    outcome: str
    """What the exception stands for."""
    error: str
    """The exception as a traceback would end."""
    output: str
    """What was printed."""
    value: str
    """What an expression came to, as text."""


class Spool(io.StringIO):
    """Standard output in memory. Printing past the limit ends the process."""

    def __init__(self, limit: int) -> None:
        super().__init__()
        self.limit = limit

    def write(self, text: str) -> int:
        if self.tell() + len(text) > self.limit:
            os._exit(PRINTED_TOO_MUCH)
        return super().write(text)


def become_program(limits: dict[str, Any], folder: Path, requests: int, answers: int, alone: bool) -> NoReturn:
    """Turn this fork of the server into a process that shares nothing with it but the two pipes, until it is killed."""
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
    """Close what the server has open: its own pipes are out of reach from here."""
    start = 3
    for descriptor in sorted(kept):
        os.closerange(start, descriptor)
        start = descriptor + 1
    os.closerange(start, start + 256)


def restrict(limits: dict[str, Any], alone: bool) -> None:
    """Let the kernel hold this process to the limits. `alone`: in a namespace where only the sandbox's processes count."""
    cap(resource.RLIMIT_CPU, math.ceil(limits["cpu_s"]), spare=1)
    cap(resource.RLIMIT_FSIZE, limits["file_bytes"])
    cap(resource.RLIMIT_NOFILE, MOST_DESCRIPTORS)
    # None at all keeps no host from starting its own handler of crashes, outside the sandbox; a limit of one byte does.
    cap(resource.RLIMIT_CORE, 1)
    if sys.platform == "linux":
        cap(resource.RLIMIT_AS, limits["memory_mb"] << 20)
        cap(resource.RLIMIT_MEMLOCK, 0)
    if alone:
        cap(resource.RLIMIT_NPROC, limits["processes"] + 2)  # the server and the launcher


def cap(which: int, value: int, spare: int = 0) -> None:
    """Lower a limit for good. The soft one ends a process politely; the hard one, `spare` above it, does not ask."""
    hard = resource.getrlimit(which)[1]
    most = value + spare if hard == resource.RLIM_INFINITY else min(value + spare, hard)
    resource.setrlimit(which, (min(value, most), most))


def answer_requests(requests: int, answers: int, output_limit: int) -> None:
    """Run whatever the judge sends. What this needs it holds by value: a program can patch modules."""
    module = types.ModuleType("solution")
    sys.modules["solution"] = sys.modules["__main__"] = module
    own, process, run, take, give, fields, payload = os.getpid(), os.getpid, attempt, receive, send, unpack, pack
    while request := take(requests):
        token, mode, name, source = fields(request)
        answer = run(source, mode, name, module.__dict__, output_limit)
        if process() != own:
            return  # a fork that the program made came back here
        give(answers, payload(token, *answer))


def attempt(source: str, mode: str, name: str, namespace: dict[str, Any], output_limit: int) -> Answer:
    """What compiling and running one source led to."""
    sys.stdout = spool = Spool(output_limit)
    stage, outcome, text, value = "compile", "", "", ""
    try:
        code = compile(source, name, mode, future_flags(namespace), True)
        stage = "run"
        result = eval(code, namespace)  # statements come to None
        value = encode(result) if mode == "eval" else ""
        stage = ""
    except BaseException as error:  # SystemExit and KeyboardInterrupt are failures of the program like any other
        outcome = outcome_of(error)
        text = "".join(traceback.format_exception_only(error))[:MOST_TEXT]
        if isinstance(error, SyntaxError):
            text = text.splitlines(keepends=True)[-1]  # after the lines that show the place
    return Answer(stage, outcome, text, spool.getvalue(), value)


def outcome_of(error: BaseException) -> str:
    """The outcome that an exception stands for."""
    outcomes = {AssertionError: "assertion", ImportError: "import", MemoryError: "memory"}
    return next((name for kind, name in outcomes.items() if isinstance(error, kind)), "exception")


def future_flags(namespace: dict[str, Any]) -> int:
    """What the program has imported from `__future__` holds for its tests too."""
    return sum(
        feature.compiler_flag for name, feature in FUTURE.items() if name in namespace and namespace[name] is feature
    )
