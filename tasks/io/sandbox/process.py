"""One running sandbox: started, given cases one at a time, ended."""

import contextlib
import dataclasses
import json
import select
import shutil
import subprocess
import tempfile
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from tasks.io.sandbox import launch
from tasks.io.sandbox.inside.frames import receive, send
from tasks.io.sandbox.records import OUTCOMES, Case, Limits, Verdict

START_S = 20.0
GRACE_S = 5.0  # past a case's own limit, before the sandbox counts as dead


class Sandbox:
    """A fork server behind the isolation called `name`. RuntimeError where it does not start."""

    def __init__(self, name: str, limits: Limits) -> None:
        self.limits = limits
        self.spent = False  # whether a case left something that only a new sandbox is free of
        self.folder = Path(tempfile.mkdtemp(prefix="ratchet-")) if name == "limits" else None
        with tempfile.TemporaryFile() as errors:
            self.process = self.start(name, errors)
            if self.receive(START_S) is None:
                self.close()
                errors.seek(0)
                lines = errors.read().decode(errors="replace").strip().splitlines()
                raise RuntimeError(lines[-1] if lines else f"{name} did not start")

    def start(self, name: str, errors: IO[bytes]) -> subprocess.Popen[bytes]:
        """The process that everything of this sandbox descends from."""
        popen = partial(subprocess.Popen, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, bufsize=0)
        if name == "bubblewrap":
            with launch.filter_file() as descriptor:
                return popen(launch.bubblewrap(self.limits, descriptor), pass_fds=(descriptor,) if descriptor else ())
        if name == "namespaces":
            return popen(launch.namespaces(self.limits), env={})
        assert self.folder
        return popen(launch.bare(self.folder), env=launch.bare_environment(self.folder))

    def judge(self, case: Case) -> Verdict | None:
        """The verdict on a case; None if the sandbox died of it."""
        tests = case.tests
        request = {
            "program": case.program,
            "prelude": tests.prelude,
            "kind": tests.kind,
            "code": tests.code,
            "limits": dataclasses.asdict(self.limits),
        }
        try:
            send(self.stdin, json.dumps(request).encode())
        except BrokenPipeError:
            return None
        reply = self.receive(self.limits.wall_s + GRACE_S)
        if reply is None or reply["outcome"] not in OUTCOMES:
            return None
        self.spent = reply["last"]
        return Verdict(reply["outcome"], reply["executed"], reply["detail"])

    @property
    def stdin(self) -> int:
        assert self.process.stdin
        return self.process.stdin.fileno()

    def receive(self, patience: float) -> dict[str, Any] | None:
        """The next message; None if the sandbox has ended or does not send it in time."""
        assert self.process.stdout
        descriptor = self.process.stdout.fileno()
        poller = select.poll()
        poller.register(descriptor, select.POLLIN)
        payload = receive(descriptor) if poller.poll(1000 * patience) else b""
        return json.loads(payload) if payload else None

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

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()
