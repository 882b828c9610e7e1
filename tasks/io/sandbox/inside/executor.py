"""The server's handle on the process that holds a program. Whatever comes back from there may be a lie."""

import contextlib
import os
import secrets
import select
import signal
import sys
import time
from pathlib import Path
from typing import Any

from tasks.io.sandbox.inside.frames import frame, pack, unpack
from tasks.io.sandbox.inside.program import PRINTED_TOO_MUCH, Answer, become_program

POLL_S = 0.05
GRACE_S = 1.0
FORGED = ("exception", "the program answers in place of its tests")
OUTCOMES = ("", "assertion", "import", "memory", "exception")


class Failed(Exception):
    """Ends a case with an outcome and a detail."""


class Executor:
    """One program's process, from fork to the end of every process that came of it."""

    def __init__(self, limits: dict[str, Any], folder: Path, client: int) -> None:
        self.limits, self.client = limits, client
        self.alone = os.getpid() == 1
        self.deadline = time.monotonic() + limits["wall_s"]
        request_end, self.requests = os.pipe()
        self.answers, answer_end = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            become_program(limits, folder, request_end, answer_end, self.alone)
        os.close(request_end)
        os.close(answer_end)
        os.set_blocking(self.requests, False)

    def run(self, source: str, mode: str, name: str) -> Answer:
        """What running `source` led to; Failed if the process did not live to tell."""
        token = secrets.token_hex()  # answers cannot be written in advance
        try:
            fields = unpack(self.exchange(frame(pack(token, mode, name, source))))
        except UnicodeDecodeError:
            raise Failed(*FORGED) from None
        if len(fields) != 1 + len(Answer._fields) or fields[0] != token or fields[2] not in OUTCOMES:
            raise Failed(*FORGED)
        return Answer(*fields[1:])

    def exchange(self, request: bytes) -> bytes:
        """Send a request and await the payload of its answer. A process that neither reads nor writes cannot hold us up."""
        answer = bytearray()
        most = 4 * self.limits["output_bytes"] + (1 << 20)
        while True:
            ready = self.wait(sending=bool(request))
            if self.requests in ready and request:
                request = self.write(request)
            if self.answers in ready:
                answer += self.read()
                length = int.from_bytes(answer[:4], "big")
                if length > most or len(answer) > 4 + length >= 8:
                    raise Failed(*FORGED)
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
        """The pipes that can be used now; Failed at the deadline or when the process has ended."""
        poller = select.poll()
        poller.register(self.client, 0)
        poller.register(self.answers, select.POLLIN)
        if sending:
            poller.register(self.requests, select.POLLOUT)
        while (left := self.deadline - time.monotonic()) > 0:
            ready = [descriptor for descriptor, _ in poller.poll(1000 * min(left, POLL_S))]
            if self.client in ready:  # hung up: nobody waits for the verdict
                self.end()
                os._exit(0)
            if ready:
                return ready
            if self.has_ended():
                raise self.obituary()
        raise self.late()

    def has_ended(self) -> bool:
        """Whether the process is no more; its status can still be asked for."""
        return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None

    def late(self) -> Failed:
        """One sentence for both clocks: which of them strikes first depends on the machine's load."""
        wall, cpu = self.limits["wall_s"], self.limits["cpu_s"]
        return Failed("timeout", f"ran longer than {wall:g} s, or used more than {cpu:g} s of CPU time")

    def obituary(self) -> Failed:
        """Why the process stopped answering."""
        patience = time.monotonic() + GRACE_S
        while not self.has_ended():  # it closes its pipes a moment before it ends
            if time.monotonic() > patience:
                return Failed("exception", "the program cut itself off from its tests")
            time.sleep(0.002)
        _, status, usage = os.wait4(self.pid, 0)
        code = os.waitstatus_to_exitcode(status)
        if code == PRINTED_TOO_MUCH:
            return Failed("killed", f"printed more than {self.limits['output_bytes']} characters")
        if code >= 0:
            return Failed("exception", f"the program ended its process with status {code} before its tests were done")
        out_of_time = usage.ru_utime + usage.ru_stime >= self.limits["cpu_s"]
        if -code == signal.SIGXCPU or (-code == signal.SIGKILL and out_of_time):
            return self.late()
        return Failed("killed", f"ended by {signal.Signals(-code).name}")

    def end(self) -> None:
        """Leave no process of this case."""
        os.close(self.requests)
        os.close(self.answers)
        if self.alone:
            kill_all()
        else:
            kill_family(self.pid)


def kill_all() -> None:
    """Kill and reap whatever else runs in this process namespace, whose process 1 we are."""
    while True:
        with contextlib.suppress(ProcessLookupError):
            os.kill(-1, signal.SIGKILL)
        if not reap():
            return


def kill_family(leader: int) -> None:
    """Without a namespace: kill the leader's group, then every orphan that came back to us."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, signal.SIGKILL)
    children = Path(f"/proc/self/task/{os.getpid()}/children")
    while True:
        for child in children.read_text().split() if children.exists() else ():
            os.kill(int(child), signal.SIGKILL)
        if not reap():
            return


def reap() -> bool:
    """Take one ended child off the process table; False when there is no child."""
    try:
        os.wait4(-1, 0)
    except ChildProcessError:
        return False
    return True


def adopt_orphans() -> None:
    """On Linux, become the parent of descendants whose own parent has ended, so that they can be found."""
    if sys.platform == "linux":
        import ctypes

        pr_set_child_subreaper = 36
        ctypes.CDLL(None).prctl(pr_set_child_subreaper, 1, 0, 0, 0)
