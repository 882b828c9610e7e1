"""The connection to the process of one program: sources go in, answers come out. No answer is trusted.

The two pipes lead directly into that process. The sandbox's server never sees the tests of a program.
"""

import os
import secrets
import select
import signal
import time
from collections.abc import Callable

from tasks.io.sandbox.guest.frames import frame, pack, unpack
from tasks.io.sandbox.guest.program import PRINTED_TOO_MUCH, Answer
from tasks.io.sandbox.records import Limits, VerdictKind

LOOK_S = 0.05  # between two checks of the process's status and memory
GRACE_S = 1.0
PHASES = ("", "compile", "run")
KINDS = ("", "assertion", "import", "memory", "exception")
OVERHEAD = 2 << 20  # most bytes of an answer besides its printed output


class Failed(Exception):
    """Raised to end a case with this kind of verdict and its detail."""

    def __init__(self, kind: VerdictKind, detail: str) -> None:
        super().__init__(kind, detail)
        self.kind, self.detail = kind, detail


class Connection:
    """Connection to one program's process.

    `status` returns `running`, or the exit code and the seconds of CPU time. `held` returns the bytes of memory that the process and
    its descendants hold together.
    """

    def __init__(
        self, limits: Limits, requests: int, answers: int, status: Callable[[], str], held: Callable[[], int]
    ) -> None:
        self.limits, self.requests, self.answers, self.status, self.held = limits, requests, answers, status, held
        self.deadline = time.monotonic() + limits.wall_s
        self.next_look = time.monotonic() + LOOK_S
        os.set_blocking(requests, False)

    def execute(self, source: str, mode: str, name: str) -> Answer:
        """Run `source` in the program's namespace and return the answer. Raises Failed if the process ended before it answered."""
        token = secrets.token_hex()  # a secret that the answer repeats, so that no answer can be written in advance
        try:
            fields = unpack(self.ask(frame(pack(token, mode, name, source))))
        except UnicodeDecodeError:
            raise forged() from None
        if len(fields) != 1 + len(Answer._fields) or fields[0] != token:
            raise forged()
        answer = Answer(*fields[1:])
        if not is_possible(answer):
            raise forged()
        return answer

    def ask(self, request: bytes) -> bytes:
        """Send a request and wait for the payload of its answer, until the deadline."""
        answer = bytearray()
        most = 4 * self.limits.output_bytes + OVERHEAD
        while True:
            ready = self.wait(sending=bool(request))
            if self.requests in ready and request:
                request = self.write(request)
            if self.answers in ready:
                answer += self.read()
                length = int.from_bytes(answer[:4], "big")
                if length > most or len(answer) > 4 + length >= 8:
                    raise forged()
                if len(answer) == 4 + length >= 8:
                    return bytes(answer[4:])

    def write(self, request: bytes) -> bytes:
        """Send as much of a request as fits and return the rest."""
        try:
            return request[os.write(self.requests, request) :]
        except BrokenPipeError:
            raise self.cause_of_end() from None

    def read(self) -> bytes:
        """Read the next part of an answer."""
        if piece := os.read(self.answers, 1 << 16):
            return piece
        raise self.cause_of_end()

    def wait(self, sending: bool) -> list[int]:
        """Wait until a pipe is ready and return the ready ones.

        Raises Failed at the deadline, and if the process has ended or exceeds its memory limit.
        """
        poller = select.poll()
        poller.register(self.answers, select.POLLIN)
        if sending:
            poller.register(self.requests, select.POLLOUT)
        while (remaining_s := self.deadline - time.monotonic()) > 0:
            ready = [descriptor for descriptor, _ in poller.poll(1000 * min(remaining_s, LOOK_S))]
            if time.monotonic() > self.next_look:
                self.check(ready)
            if ready:
                return ready
        raise late(self.limits)

    def check(self, ready: list[int]) -> None:
        """Raise Failed if the process has ended without an answer, or holds too much memory together with its descendants."""
        if self.held() > self.limits.memory_mb << 20:
            raise Failed("memory", f"its processes held more than {self.limits.memory_mb} MB together")
        if not ready and self.status() != "running":
            raise self.cause_of_end()
        self.next_look = time.monotonic() + LOOK_S

    def cause_of_end(self) -> Failed:
        """Return the reason why the process stopped answering."""
        patience = time.monotonic() + GRACE_S
        while (status := self.status()) == "running":  # a process closes its pipes a moment before it ends
            if time.monotonic() > patience:
                return Failed("evaded", "the program cut itself off from its tests")
            time.sleep(0.002)
        code, seconds = int(status.split()[0]), float(status.split()[1])
        if code == PRINTED_TOO_MUCH:
            return Failed("killed", f"printed more than {self.limits.output_bytes} characters")
        if code >= 0:
            return Failed("evaded", f"the program ended its process with status {code} before its tests were done")
        out_of_time = seconds >= self.limits.cpu_s
        if -code == signal.SIGXCPU or (-code == signal.SIGKILL and out_of_time):
            return late(self.limits)
        # Of the real-time signals only the first and the last one have a name.
        name = next((known.name for known in signal.Signals if known == -code), f"signal {-code}")
        return Failed("killed", f"ended by {name}")


def is_possible(answer: Answer) -> bool:
    """Return True if running a source can lead to this answer: a failure has a phase and a kind, a success has neither."""
    return answer.phase in PHASES and answer.kind in KINDS and bool(answer.phase) == bool(answer.kind)


def late(limits: Limits) -> Failed:
    """Return the failure for either time limit.

    Both limits have the same message, because the load of the machine decides which one is reached first.
    """
    return Failed("timeout", f"ran longer than {limits.wall_s:g} s, or used more than {limits.cpu_s:g} s of CPU time")


def forged() -> Failed:
    """Return the failure for an answer that the tests cannot have produced."""
    return Failed("evaded", "the program answers in place of its tests")
