"""The line to one program's process: sources go in, answers come out. Whatever comes back may be a lie.

The two pipes lead from here into that process, past the sandbox's server, which so never sees what a program is tested with.
"""

import os
import secrets
import select
import signal
import time
from collections.abc import Callable

from tasks.io.sandbox.inside.frames import frame, pack, unpack
from tasks.io.sandbox.inside.program import PRINTED_TOO_MUCH, Answer
from tasks.io.sandbox.records import Limits, Outcome

LOOK_S = 0.05  # between two looks at a process that is silent, or that never is
GRACE_S = 1.0
STAGES = ("", "compile", "run")
OUTCOMES = ("", "assertion", "import", "memory", "exception")
OVERHEAD = 2 << 20  # bytes of an answer beside what was printed


class Failed(Exception):
    """Ends a case with an outcome and a detail."""

    def __init__(self, outcome: Outcome, detail: str) -> None:
        super().__init__(outcome, detail)
        self.outcome, self.detail = outcome, detail


class Exchange:
    """One program's process, as seen from here.

    `status` says how it is: `running`, or its exit code and its seconds of CPU time. `held` says how many bytes of memory it and
    all that came of it hold together.
    """

    def __init__(
        self, limits: Limits, requests: int, answers: int, status: Callable[[], str], held: Callable[[], int]
    ) -> None:
        self.limits, self.requests, self.answers, self.status, self.held = limits, requests, answers, status, held
        self.deadline = time.monotonic() + limits.wall_s
        self.next_look = time.monotonic() + LOOK_S
        os.set_blocking(requests, False)

    def execute(self, source: str, mode: str, name: str) -> Answer:
        """What running `source` led to; Failed if the process did not live to tell."""
        token = secrets.token_hex()  # answers cannot be written in advance
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
        """Send a request and await the payload of its answer. A process that neither reads nor writes cannot hold us up."""
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
        """What is left of a request after sending what fits."""
        try:
            return request[os.write(self.requests, request) :]
        except BrokenPipeError:
            raise self.obituary() from None

    def read(self) -> bytes:
        """The next piece of an answer."""
        if piece := os.read(self.answers, 1 << 16):
            return piece
        raise self.obituary()

    def wait(self, sending: bool) -> list[int]:
        """The pipes that can be used now; Failed at the deadline, or when the process has ended or holds too much."""
        poller = select.poll()
        poller.register(self.answers, select.POLLIN)
        if sending:
            poller.register(self.requests, select.POLLOUT)
        while (left := self.deadline - time.monotonic()) > 0:
            ready = [descriptor for descriptor, _ in poller.poll(1000 * min(left, LOOK_S))]
            if time.monotonic() > self.next_look:
                self.look(ready)
            if ready:
                return ready
        raise late(self.limits)

    def look(self, ready: list[int]) -> None:
        """Failed if the process has ended without a word, or holds too much memory with all that came of it."""
        if self.held() > self.limits.memory_mb << 20:
            raise Failed("memory", f"its processes held more than {self.limits.memory_mb} MB together")
        if not ready and self.status() != "running":
            raise self.obituary()
        self.next_look = time.monotonic() + LOOK_S

    def obituary(self) -> Failed:
        """Why the process stopped answering."""
        patience = time.monotonic() + GRACE_S
        while (status := self.status()) == "running":  # it closes its pipes a moment before it ends
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
        return Failed("killed", f"ended by {signal.Signals(-code).name}")


def is_possible(answer: Answer) -> bool:
    """Whether it is one that running a source can lead to: a failure has a stage and an outcome, what worked has neither."""
    return answer.stage in STAGES and answer.outcome in OUTCOMES and bool(answer.stage) == bool(answer.outcome)


def late(limits: Limits) -> Failed:
    """One sentence for both clocks: which of them strikes first depends on the machine's load."""
    return Failed("timeout", f"ran longer than {limits.wall_s:g} s, or used more than {limits.cpu_s:g} s of CPU time")


def forged() -> Failed:
    """The answer is none that the tests can have led to."""
    return Failed("evaded", "the program answers in place of its tests")
