"""One running sandbox: start it, run cases one at a time, close it."""

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
from tasks.io.sandbox.connection import Connection, Failed
from tasks.io.sandbox.layout import ROOT, WORK
from tasks.io.sandbox.records import Case, Isolation, Limits, Outputs, Verdict
from tasks.io.sandbox.run_tests import perform, run_tests

T = TypeVar("T")
START_S = 20.0
GRACE_S = 5.0  # added to a case's own time limit; after both, the sandbox counts as dead
DETAIL = 300
ADDRESS = re.compile(r"\b(?:9[3-5]|139|140|187|281)\d{12}\b")
"""A number that `id` may have returned: within the address ranges of processes on Linux, x86-64 and arm64."""
NOBODY = 65534
MOST_WORD = 64  # bytes


class Died(Exception):
    """Raised if the sandbox's server has ended or does not answer."""


class Sandbox:
    """A fork server under the isolation `name`. Raises RuntimeError if it does not start.

    If `package` names an installed distribution, its programs can import that too.
    """

    def __init__(self, name: Isolation, limits: Limits, package: str = "") -> None:
        self.name, self.limits, self.package = name, limits, package
        self.usable = True  # False once it has died, or a case has left files that cannot be removed
        self.folder = Path(tempfile.mkdtemp(prefix="ratchet-")) if name == "limits" else None
        self.server, other = socket.socketpair()
        with tempfile.TemporaryFile() as errors:
            try:
                with other:  # closed on this side, so that the end of the server closes the socket
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
        """Start the process from which all other processes of this sandbox descend."""
        with tempfile.TemporaryFile() as rules:
            command, options = self.command(name, rules)
            process = subprocess.Popen(
                command,
                stdin=server.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=errors,
                start_new_session=True,  # Ctrl-C is handled by this process
                **options,
            )
        with contextlib.suppress(OSError):
            # If memory runs out, let the kernel kill the sandbox, not this process.
            Path(f"/proc/{process.pid}/oom_score_adj").write_text("1000")
        return process

    def command(self, name: Isolation, rules: IO[bytes]) -> tuple[list[str], dict[str, Any]]:
        """Return the command line and further arguments of Popen. Both launchers of level 2 clear the environment."""
        if name != "limits" and not memory.can_be_watched():
            raise RuntimeError("this kernel does not report the memory of child processes, so it cannot be limited")
        if name == "namespaces":
            return launch.namespaces(self.limits, self.package), {}
        if name == "bubblewrap":
            # Do not run bwrap as root: it keeps its user, and the kernel does not limit the number of root's processes.
            nobody = {"user": NOBODY, "group": NOBODY, "extra_groups": ()} if os.geteuid() == 0 else {}
            return launch.bubblewrap(self.limits, rules, self.package), {"pass_fds": [rules.fileno()], **nobody}
        assert self.folder
        environment = launch.bare_environment(self.folder, self.package)
        return launch.bare(self.limits, self.folder, self.package), {"env": environment}

    def judge(self, case: Case) -> Verdict:
        """Run a case and return its verdict."""
        return self.in_new_process(lambda program: self._run_tests(case, program))

    def observe(self, case: Case) -> Outputs | Verdict:
        """Return the printed output of each example of a case; a verdict if the program fails to load or ends before the last one."""
        return self.in_new_process(lambda program: self._run_examples(case, program))

    def in_new_process(self, work: Callable[[Connection], T]) -> T | Verdict:
        """Start a process for a program and return the result of `work` on its connection."""
        try:
            with self.program() as program:
                result = work(program)
            self.usable = self.ask("end") == "clean"
        except Died:
            self.usable = False
            return Verdict("killed", 0, "the sandbox died with it")
        return result

    @contextlib.contextmanager
    def program(self) -> Iterator[Connection]:
        """Open a connection to a new process for a program. It shares only two pipes with this process."""
        server_reads, requests = os.pipe()
        answers, server_writes = os.pipe()
        try:
            try:
                self.ask("begin", server_reads, server_writes)
            finally:
                os.close(server_reads)
                os.close(server_writes)
            yield Connection(self.limits, requests, answers, lambda: self.ask("status"), self.held)
        finally:
            os.close(requests)
            os.close(answers)

    def _run_tests(self, case: Case, program: Connection) -> Verdict:
        """Run the tests of a case over an open connection and return the verdict."""
        executed, inside = 0, False
        try:
            for where in run_tests(case.program, case.tests, program.execute):
                executed += 1
                inside |= where == "inside"
        except Failed as failure:
            return Verdict(failure.kind, executed, self.tidy(failure.detail), inside)
        if executed:
            return Verdict("passed", executed, "", inside)
        return Verdict("untested", 0, "no expectation was executed")

    def _run_examples(self, case: Case, program: Connection) -> Outputs | Verdict:
        """Run the examples of a case over an open connection and return their printed output."""
        try:
            return list(perform(case.program, case.tests, program.execute))
        except Failed as failure:
            return Verdict(failure.kind, 0, self.tidy(failure.detail))

    def held(self) -> int:
        """Return the bytes of memory that a case's processes hold together; 0 for a single one, which the kernel limits."""
        server = [self.process.pid] if self.folder else memory.children(self.process.pid)
        processes = [
            member for parent in server for leader in memory.children(parent) for member in memory.family(leader)
        ]
        return memory.held(processes) if len(processes) > 1 else 0

    def ask(self, word: str, *descriptors: int) -> str:
        """Send a command to the server and return its reply."""
        try:
            socket.send_fds(self.server, [word.encode()], descriptors)
        except (BrokenPipeError, ConnectionResetError):
            raise Died from None
        return self.receive(self.limits.wall_s + GRACE_S)

    def receive(self, timeout_s: float) -> str:
        """Return the server's next reply."""
        self.server.settimeout(timeout_s)
        try:
            word = self.server.recv(MOST_WORD)
        except (TimeoutError, ConnectionResetError):
            raise Died from None
        if not word:
            raise Died
        return word.decode()

    def tidy(self, detail: str) -> str:
        """Return the last line, without parts that differ between runs or machines."""
        line = (detail.strip().splitlines() or [""])[-1]
        replacements = [
            (str((self.folder / "work" if self.folder else WORK) / "case"), "."),
            (sys.base_prefix, str(ROOT)),
        ]
        for path, name in replacements:
            line = line.replace(path, name)
        line = re.sub(r"0x[0-9a-fA-F]+", "0x…", line)
        line = ADDRESS.sub("…", line)
        return line.encode("utf-8", "backslashreplace").decode()[:DETAIL]

    def close(self) -> None:
        """End every process and remove every file."""
        self.server.close()  # this ends the server and the processes that it started
        for stop in (self.process.terminate, self.process.kill):
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(GRACE_S)
                break
            stop()
        self.process.wait()
        self.discard()

    def discard(self) -> None:
        """Close the socket and remove the folder on this side."""
        self.server.close()
        if self.folder:
            shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
