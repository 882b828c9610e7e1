"""Ask the workspace's fork server to run a stage. Needs the standard library alone, so that it starts in no time."""

import contextlib
import ctypes
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from tasks.forkserver import protocol

PR_SET_PDEATHSIG = 1
PATIENCE_S = 10.0
"""How long a child whose server has gone may take to end."""
START_S = 120.0
"""How long a server may import before nobody waits for it any more."""


def run(
    arguments: list[str],
    program: str = "tasks.run",
    *,
    name: str = "",
    variables: Mapping[str, str] = os.environ,
    ends_with_parent: bool = True,
) -> int | None:
    """Run a program of `protocol.PROGRAMS` in a child of the fork server and return its exit code; None if it is to run elsewhere.

    `name` is what `ps` shows, without one that of a stage; `variables` is the child's environment. With `ends_with_parent` the death of
    this process's parent stops the child.
    """
    if not is_wanted():
        return None
    if ends_with_parent and not _ask_for_signal_with(os.getppid()):
        sys.exit(128 + signal.SIGTERM)
    with socket.socket(socket.AF_UNIX) as connection:
        if not _connect(connection):
            return None
        request = {
            "program": program,
            "arguments": arguments,
            "name": name or protocol.stage_name(arguments),
            "environment": dict(variables),
            "fingerprint": protocol.fingerprint(os.environ),
        }
        try:
            protocol.send(connection, request, (0, 1, 2))
            answer = protocol.receive(connection)
        except OSError:
            return None
        if answer is None or "pid" not in answer[0]:
            return None
        connection.settimeout(None)
        return _wait(connection, answer[0]["pid"])


def _connect(connection: socket.socket) -> bool:
    """Connect to the workspace's server, also to one that still imports: to import the same beside it would be work done twice."""
    connection.settimeout(START_S)
    for path in (protocol.SOCKET, protocol.STARTING, protocol.SOCKET):  # it may have become ready between the first two
        with contextlib.suppress(OSError):
            connection.connect(str(path))
            return True
    return False


def is_wanted() -> bool:
    """Return True where stages of this process may run in a fork server: on Linux, not switched off, not started by torchrun."""
    return sys.platform == "linux" and os.environ.get(protocol.SWITCH) != "0" and "RANK" not in os.environ


def start_for_driver() -> bool:
    """Start a fork server where this is the second stage that one `dvc repro` runs; return True if it accepts requests.

    A single stage would not profit. The second one waits for the server: to import the same beside it would be work done twice.
    It is tried once for each `dvc repro`: a flow starts its own, and says so by `RATCHET_DRIVER`.
    """
    if not is_wanted() or protocol.DRIVER in os.environ:
        return False
    driver, server = os.getppid(), None
    with contextlib.suppress(OSError):  # a full disk: stages then run in processes of their own
        protocol.DRIVERS.parent.mkdir(exist_ok=True)
        known = protocol.DRIVERS.read_text().split() if protocol.DRIVERS.exists() else []
        name = f"{driver}:{_start_time(driver)}"
        if known == [name]:
            server = start(driver)
        if name not in known or len(known) == 1:
            protocol.DRIVERS.write_text(" ".join([*known, name] if name in known else [name]))
    if server is None:
        return False
    return wait_until_ready(server)


def start(driver: int) -> "subprocess.Popen[bytes]":
    """Start a fork server that ends with process `driver`, in a session of its own."""
    return subprocess.Popen(
        command(driver),
        start_new_session=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def wait_until_ready(server: "subprocess.Popen[bytes]") -> bool:
    """Wait until a server that was started accepts requests and return True; False where it has ended or `START_S` have passed."""
    deadline = time.monotonic() + START_S
    while not (ready := answers()) and server.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    return ready


def answers(path: str = str(protocol.SOCKET)) -> bool:
    """Return True if a fork server, without a path that of this workspace, accepts requests."""
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(path) == 0


def command(driver: int) -> list[str]:
    """Return the command line of a fork server."""
    return [sys.executable, "-m", "tasks.forkserver.server", str(driver)]


def _wait(connection: socket.socket, child: int) -> int | None:
    """Return the exit code of the child; None where it ended with its server, so that the stage has to run again."""
    with _forwarding(child), contextlib.suppress(OSError):
        if answer := protocol.receive(connection):
            return int(answer[0]["code"])
    deadline = time.monotonic() + PATIENCE_S
    while _lives(child):  # the kernel ends it with its server; until then it holds the stage's lock
        if time.monotonic() > deadline:
            sys.stderr.write(
                f"The fork server has gone, and its child {child} has not ended. End it: kill -9 {child}\n"
            )
            return 1
        time.sleep(0.05)
    sys.stderr.write("The fork server has gone; the stage starts again in a separate process.\n")
    return None


@contextmanager
def _forwarding(child: int) -> Iterator[None]:
    """Within, hand on to the child what asks this process to stop."""

    def forward(number: int, _frame: FrameType | None) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, number)

    before = {number: signal.signal(number, forward) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _ask_for_signal_with(parent: int) -> bool:
    """Let the kernel send SIGTERM to this process when its parent ends; return False if the parent has ended already."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    return os.getppid() == parent


def _start_time(pid: int) -> str:
    """Return when a process began, in ticks since the machine did: its number may be given away again."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
