"""One running sandbox: started, given cases one at a time, ended."""

import contextlib
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self, TypeVar

from tasks.io.sandbox import launch, memory
from tasks.io.sandbox.exchange import Exchange, Failed
from tasks.io.sandbox.judge import judge, perform
from tasks.io.sandbox.layout import ROOT, WORK
from tasks.io.sandbox.records import Case, Isolation, Limits, Outputs, Verdict

T = TypeVar("T")
START_S = 20.0
GRACE_S = 5.0  # past a case's own limit, before the sandbox counts as dead
DETAIL = 300
ADDRESS = re.compile(r"\b(?:9[3-5]|139|140|187|281)\d{12}\b")
"""A number that `id` may have given: the ranges in which Linux puts a process on x86-64 and on arm64, to a trillion."""
NOBODY = 65534
MOST_WORD = 64  # bytes


class Died(Exception):
    """The sandbox is no more, or does not answer."""


class Sandbox:
    """A fork server behind the isolation called `name`. RuntimeError where it does not start."""

    def __init__(self, name: Isolation, limits: Limits) -> None:
        self.name, self.limits = name, limits
        self.usable = True  # until it dies or a case leaves something that only a new sandbox is free of
        self.folder = Path(tempfile.mkdtemp(prefix="ratchet-")) if name == "limits" else None
        self.server, other = socket.socketpair()
        with tempfile.TemporaryFile() as errors:
            try:
                with other:  # theirs alone, or its end would never be heard of
                    self.process = self.start(name, other, errors)
            except (OSError, RuntimeError) as error:
                self.discard()
                raise RuntimeError(f"{name} did not start: {error}") from error
            try:
                self.receive(START_S)
            except Died:
                self.close()
                errors.seek(0)
                lines = errors.read().decode(errors="replace").strip().splitlines()
                raise RuntimeError(lines[-1] if lines else f"{name} did not start") from None

    def start(self, name: Isolation, server: socket.socket, errors: IO[bytes]) -> subprocess.Popen[bytes]:
        """The process that everything of this sandbox descends from."""
        with tempfile.TemporaryFile() as rules:
            command, special = self.command(name, rules)
            process = subprocess.Popen(
                command,
                stdin=server.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=errors,
                start_new_session=True,  # an interrupt at the keyboard is for us to handle
                **special,
            )
        with contextlib.suppress(OSError):
            # Where memory runs out, the kernel is to end programs, and not what waits for them.
            Path(f"/proc/{process.pid}/oom_score_adj").write_text("1000")
        return process

    def command(self, name: Isolation, rules: IO[bytes]) -> tuple[list[str], dict[str, Any]]:
        """The command line, and what is special about its process. Both launchers of level 2 clear the environment."""
        if name != "limits" and not memory.can_be_watched():
            raise RuntimeError(
                "this kernel does not tell what the children of a process hold, so nothing could limit it"
            )
        if name == "namespaces":
            return launch.namespaces(self.limits), {}
        if name == "bubblewrap":
            # bwrap would leave root root, and the kernel counts no process of root's.
            nobody = {"user": NOBODY, "group": NOBODY, "extra_groups": ()} if os.geteuid() == 0 else {}
            return launch.bubblewrap(self.limits, rules), {"pass_fds": [rules.fileno()], **nobody}
        assert self.folder
        return launch.bare(self.limits, self.folder), {"env": launch.bare_environment(self.folder)}

    def judge(self, case: Case) -> Verdict:
        """The verdict on a case."""
        return self.within(lambda program: self.weigh(case, program))

    def observe(self, case: Case) -> Outputs | Verdict:
        """What each example of a case prints; a verdict where the program did not live to run them all."""
        return self.within(lambda program: self.listen(case, program))

    def within(self, work: Callable[[Exchange], T]) -> T | Verdict:
        """What `work` makes of a new program's process."""
        try:
            with self.program() as program:
                result = work(program)
            self.usable = self.ask("end") == "clean"
        except Died:
            self.usable = False
            return Verdict("killed", 0, "the sandbox died with it")
        return result

    @contextlib.contextmanager
    def program(self) -> Iterator[Exchange]:
        """The line to a new program's process, which shares nothing with this one but two pipes."""
        theirs_to_read, requests = os.pipe()
        answers, theirs_to_write = os.pipe()
        try:
            try:
                self.ask("begin", theirs_to_read, theirs_to_write)
            finally:
                os.close(theirs_to_read)
                os.close(theirs_to_write)
            yield Exchange(self.limits, requests, answers, lambda: self.ask("status"), self.held)
        finally:
            os.close(requests)
            os.close(answers)

    def weigh(self, case: Case, program: Exchange) -> Verdict:
        """The verdict on the case that has begun."""
        executed, inside = 0, False
        try:
            for where in judge(case.program, case.tests, program.execute):
                executed += 1
                inside |= where == "inside"
        except Failed as failure:
            return Verdict(failure.outcome, executed, self.tidy(failure.detail), inside)
        if executed:
            return Verdict("passed", executed, "", inside)
        return Verdict("untested", 0, "no expectation was executed")

    def listen(self, case: Case, program: Exchange) -> Outputs | Verdict:
        """What the examples of the case that has begun print."""
        try:
            return list(perform(case.program, case.tests, program.execute))
        except Failed as failure:
            return Verdict(failure.outcome, 0, self.tidy(failure.detail))

    def held(self) -> int:
        """Bytes of memory that a case's processes hold together; 0 for a single one, which the kernel holds to its limit."""
        server = [self.process.pid] if self.folder else memory.children(self.process.pid)
        processes = [
            member for parent in server for leader in memory.children(parent) for member in memory.family(leader)
        ]
        return memory.held(processes) if len(processes) > 1 else 0

    def ask(self, word: str, *descriptors: int) -> str:
        """The server's reply to a word."""
        try:
            socket.send_fds(self.server, [word.encode()], descriptors)
        except (BrokenPipeError, ConnectionResetError):
            raise Died from None
        return self.receive(self.limits.wall_s + GRACE_S)

    def receive(self, patience: float) -> str:
        """The server's next word."""
        self.server.settimeout(patience)
        try:
            word = self.server.recv(MOST_WORD)
        except (TimeoutError, ConnectionResetError):
            raise Died from None
        if not word:
            raise Died
        return word.decode()

    def tidy(self, detail: str) -> str:
        """The last line, without what differs from run to run or from machine to machine."""
        line = (detail.strip().splitlines() or [""])[-1]
        places = [(str((self.folder / "work" if self.folder else WORK) / "case"), "."), (sys.base_prefix, str(ROOT))]
        for place, name in places:
            line = line.replace(place, name)
        line = re.sub(r"0x[0-9a-fA-F]+", "0x…", line)
        line = ADDRESS.sub("…", line)
        return line.encode("utf-8", "backslashreplace").decode()[:DETAIL]

    def close(self) -> None:
        """End every process and remove every file."""
        self.server.close()  # the server ends, and what it runs with it
        for last_resort in (self.process.terminate, self.process.kill):
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(GRACE_S)
                break
            last_resort()
        self.process.wait()
        self.discard()

    def discard(self) -> None:
        """Leave nothing of it on this side."""
        self.server.close()
        if self.folder:
            shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
