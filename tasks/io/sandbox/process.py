"""One running sandbox: started, given cases one at a time, ended."""

import contextlib
import re
import select
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from tasks.io.sandbox import launch
from tasks.io.sandbox.inside.executor import Failed
from tasks.io.sandbox.inside.frames import pack, receive, send, unpack
from tasks.io.sandbox.inside.program import Answer
from tasks.io.sandbox.judge import judge
from tasks.io.sandbox.layout import ROOT, WORK
from tasks.io.sandbox.records import Case, Isolation, Limits, Verdict

START_S = 20.0
GRACE_S = 5.0  # past a case's own limit, before the sandbox counts as dead
DETAIL = 300
ADDRESS = re.compile(r"\b(?:9[3-5]|139|140|187|281)\d{12}\b")
"""A number that `id` may have given: the ranges in which Linux puts a process on x86-64 and on arm64, to a trillion."""


class Died(Exception):
    """The sandbox is no more, or does not answer."""


class Sandbox:
    """A fork server behind the isolation called `name`. RuntimeError where it does not start."""

    def __init__(self, name: Isolation, limits: Limits) -> None:
        self.limits = limits
        self.usable = True  # until it dies or a case leaves something that only a new sandbox is free of
        self.folder = Path(tempfile.mkdtemp(prefix="ratchet-")) if name == "limits" else None
        with tempfile.TemporaryFile() as errors:
            self.process = self.start(name, errors)
            try:
                self.receive(START_S)
            except Died:
                self.close()
                errors.seek(0)
                lines = errors.read().decode(errors="replace").strip().splitlines()
                raise RuntimeError(lines[-1] if lines else f"{name} did not start") from None

    def start(self, name: Isolation, errors: IO[bytes]) -> subprocess.Popen[bytes]:
        """The process that everything of this sandbox descends from."""
        environment = None  # that of this process, which both launchers clear
        with launch.filter_file() as rules:
            if name == "bubblewrap":
                command = launch.bubblewrap(self.limits, rules.fileno())
            elif name == "namespaces":
                command = launch.namespaces(self.limits)
            else:
                assert self.folder
                command = launch.bare(self.limits, self.folder)
                environment = launch.bare_environment(self.folder)
            process = subprocess.Popen(
                command,
                bufsize=0,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                env=environment,
                pass_fds=[rules.fileno()] if name == "bubblewrap" else [],
                start_new_session=True,  # an interrupt at the keyboard is for us to handle
            )
        with contextlib.suppress(
            OSError
        ):  # where memory runs out, the kernel is to end programs, and not what waits for them
            Path(f"/proc/{process.pid}/oom_score_adj").write_text("1000")
        return process

    def judge(self, case: Case) -> Verdict:
        """The verdict on a case."""
        try:
            self.ask("begin")
            verdict = self.weigh(case)
            self.usable = self.ask("end") == ["clean"]
        except Died:
            self.usable = False
            return Verdict("killed", 0, "the sandbox died with it")
        return verdict

    def weigh(self, case: Case) -> Verdict:
        """The verdict on the case that has begun."""
        executed = 0
        try:
            for _ in judge(case.program, case.tests, self.execute):
                executed += 1
        except Failed as failure:
            outcome, detail = failure.args
            return Verdict(outcome, executed, self.tidy(detail))
        return Verdict("passed", executed, "") if executed else Verdict("untested", 0, "no expectation was executed")

    def execute(self, source: str, mode: str, name: str) -> Answer:
        """What running a source in the program's namespace led to."""
        kind, *fields = self.ask("run", mode, name, source)
        if kind == "failed":
            raise Failed(*fields)
        return Answer(*fields)

    def ask(self, *message: str) -> list[str]:
        """The reply to a message."""
        assert self.process.stdin
        try:
            send(self.process.stdin.fileno(), pack(*message))
        except BrokenPipeError:
            raise Died from None
        return self.receive(self.limits.wall_s + GRACE_S)

    def receive(self, patience: float) -> list[str]:
        """The next message."""
        assert self.process.stdout
        descriptor = self.process.stdout.fileno()
        poller = select.poll()
        poller.register(descriptor, select.POLLIN)
        payload = receive(descriptor) if poller.poll(1000 * patience) else b""
        if not payload:
            raise Died
        return unpack(payload)

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
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe
            pipe.close()  # the server ends, and what it runs with it
        for last_resort in (self.process.terminate, self.process.kill):
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(GRACE_S)
                break
            last_resort()
        self.process.wait()
        if self.folder:
            shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
