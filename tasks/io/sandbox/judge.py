"""Call functions of one program again and again, in a process of a sandbox that stays alive between the calls."""

import contextlib
import threading
import time
from typing import Any

from tasks.io.sandbox.connection import Connection, Failed
from tasks.io.sandbox.guest.program import FILE
from tasks.io.sandbox.guest.values import decode
from tasks.io.sandbox.levels import probe
from tasks.io.sandbox.pool import isolation, start_sandbox
from tasks.io.sandbox.process import Died, Sandbox
from tasks.io.sandbox.records import Limits
from tasks.io.sandbox.run_tests import expect_success

LOAD_S = 60.0


class Killed(Failed):
    """Raised if the process of a call was killed."""


class Judge:
    """A program of this project that runs in a sandbox and imports an installed distribution.

    It runs at level 2 if the machine offers it, else at level 1. At level 1 it must not run code that a model wrote. Raises RuntimeError
    if neither level starts.
    """

    def __init__(self, program: str, package: str, limits: Limits) -> None:
        self.program, self.package, self.limits = program, package, limits
        self.isolated = probe().number >= 2
        self.name = isolation(2 if self.isolated else 1)
        self.sandbox: Sandbox | None = None
        self.process = contextlib.ExitStack()
        self.connection: Connection | None = None
        self.alone = threading.Lock()
        """Lock held during a call, because the process answers one call at a time and the review page has a thread for each edit."""
        self.prepared: set[str] = set()
        """Preparing calls that this process has already run."""

    def ask(self, call: str, before: str) -> Any:
        """Return the value of `call`. The call `before` prepares each new process once.

        Raises Failed if `call` raises, ends its process or exceeds the time limit; the next call then gets a new process. Raises
        RuntimeError if the preparation fails. A killed process is replaced once, because the kernel may have killed it for lack of memory.
        """
        with self.alone:
            try:
                return self._ask(call, before)
            except Killed:
                return self._ask(call, before, last=True)

    def _ask(self, call: str, before: str, last: bool = False) -> Any:
        if before not in self.prepared:
            try:
                self._run(before, "eval", LOAD_S)
            except Failed as failure:
                if isinstance(failure, Killed) and not last:
                    raise
                raise RuntimeError(f"{before} fails in the sandbox: {failure.detail}") from None
            self.prepared.add(before)
        return self._run(call, "eval", self.limits.wall_s)

    def _run(self, source: str, mode: str, seconds: float) -> Any:
        try:
            connection = self.connection or self._start()
            connection.deadline = time.monotonic() + seconds
            answer = connection.execute(source, mode, FILE)
            expect_success(answer)
            return decode(answer.value) if mode == "eval" else None
        except Died:
            self.close()
            raise Killed("killed", "the sandbox died with it") from None
        except Failed as failure:
            self._end()
            if failure.kind == "killed":
                raise Killed(failure.kind, failure.detail) from None
            raise

    def _start(self) -> Connection:
        """Start a process and run the program in it."""
        self.sandbox = self.sandbox or start_sandbox(self.name, self.limits, self.package)
        self.connection = self.process.enter_context(self.sandbox.program())
        self._run(self.program, "exec", LOAD_S)
        return self.connection

    def _end(self) -> None:
        """End the process, if there is one, and its descendants. Keep the sandbox only if it is clean afterwards."""
        if self.sandbox is None or self.connection is None:
            return
        self.connection = None
        self.prepared.clear()
        self.process.close()
        with contextlib.suppress(Died):
            if self.sandbox.ask("end") == "clean":
                return
        self.close()

    def close(self) -> None:
        """End the process and its sandbox."""
        self.connection = None
        self.prepared.clear()
        self.process.close()
        if self.sandbox:
            self.sandbox.close()
        self.sandbox = None
