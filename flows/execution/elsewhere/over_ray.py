"""Start a far side as one task of a Ray cluster, which connects to this machine."""

import hmac
import secrets
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass

from flows.execution import resources, supervisor, workspace
from flows.execution.elsewhere import boot, channel, frames, hosts, ray_task
from flows.execution.elsewhere.channel import Unreachable
from flows.execution.elsewhere.hosts import Host
from tasks import configuration
from tasks.io.system import files, ray_cluster, timer
from tasks.io.system.ray_cluster import Needs, Task

NODES = workspace.SCRATCH / "elsewhere"
"""The folder that records the address of the node that last ran each stage."""
TOKEN_S = 5.0
"""Seconds within which a client must send the token."""
LOOK_S = 1.0
"""Seconds between two checks of a task that has not connected yet."""
REPORTED_AFTER_S = 5.0
"""Seconds after which a message says that the task waits for a node."""


@dataclass(frozen=True)
class Work:
    """The reason for connecting to a host: a stage to run, or a check."""

    stage: str
    """The stage's name in DVC; the task requests its `resources` from a node."""
    say: Callable[[str], None]
    looks: bool = False
    """True for a check of a node that could run the stage: it takes none of the node's resources and does not wait."""


class RayNode:
    """The channel to a task that has connected."""

    def __init__(self, host: Host, connection: socket.socket, task: Task) -> None:
        self._host, self._connection, self._task = host, connection, task
        self.incoming, self.outgoing = connection.makefile("rb"), connection.makefile("wb")
        self.node = self.incoming.readline().decode().strip()
        """The node's address in Ray; empty if the task ended before it sent it."""
        self._lost = ""

    def close_if_lost(self) -> None:
        """Close the connection if the cluster is lost, or Ray has given up the task, whose process may live on for minutes."""
        self._check_cluster()
        if self._lost or self._task.is_over():
            self._close()

    def _check_cluster(self) -> None:
        try:
            self._task.check()
        except RuntimeError as error:
            self._lost = str(error).rstrip(".")

    def end(self) -> tuple[int, str]:
        """Return the exit code of the far side and its last output, or Ray's message if the task was lost."""
        self._close()
        for file in (self.incoming, self.outgoing, self._connection):
            with suppress(OSError):  # unsent data no longer matter
                file.close()
        code, said = 1, ""
        if not self._lost and self._task.is_over(2 * supervisor.PATIENCE_S):
            code, said = _outcome(self._task)
        if code and not said:  # a node may close the connection before a check shows that the cluster is lost
            self._check_cluster()
        return code, said or self._lost

    def _close(self) -> None:
        with suppress(OSError):  # the other side has already closed it
            self._connection.shutdown(socket.SHUT_RDWR)

    def explain(self, code: int, said: str) -> str:
        """Return the reason why the far side did not start."""
        return channel.explain(self._host, code, said)


@contextmanager
def opened(name: str, host: Host, size: int, work: Work) -> Iterator[RayNode]:
    """Yield a channel to a far side whose modules have `size` bytes, once a node has the resources of the stage.

    Raises Unreachable if there is no such cluster or node, or if the task did not connect.
    """
    needs = resources.needs(work.stage.partition("@")[0], configuration.load())
    instead = f"leave `host: {name}` out of `resources` to use this machine"
    named_by = ray_cluster.NamedBy(f"`ray` of {name} in {hosts.path()}", instead)
    last = NODES / name / work.stage.replace("/", "_")
    with ExitStack() as stack:
        try:
            cluster = stack.enter_context(ray_cluster.connected(host.ray, named_by))
            near = last.read_text() if last.is_file() and not work.looks else None
            node = cluster.node(needs, near)
            server = stack.enter_context(_listening(cluster.own_address))
            token = secrets.token_hex()
            arguments = (server.getsockname()[:2], token, ["-c", boot.PROGRAM, host.folder, str(size)])
            taken = Needs(cores=0) if work.looks else needs
            task = stack.enter_context(
                cluster.task(ray_task.serve, arguments, taken, node if near or work.looks else None)
            )
            connection = _accepted(server, token, task, lambda: work.say(f"on {name}: waits for a node with {taken}"))
        except (RuntimeError, OSError) as error:
            raise Unreachable(f"{name}: {error}") from None
        made = RayNode(host, connection, task)
        stack.callback(made.end)
        if made.node and not work.looks:
            files.write_atomically(last, made.node)
            work.say(f"on {name}: node {made.node}")
        with timer.every(frames.BEAT_S, made.close_if_lost, "check the task"):
            yield made


def _listening(address: str) -> socket.socket:
    """Return a socket that listens on the address at which the nodes reach this machine."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    return socket.create_server((address, 0), family=family)


def _accepted(server: socket.socket, token: str, task: Task, wait: Callable[[], None]) -> socket.socket:
    """Return the connection of the task, and stop listening. A client that does not send the token is disconnected.

    Raises RuntimeError if the task ended or was lost before it connected, or cannot begin.
    """
    server.settimeout(LOOK_S)
    begun, is_reported = time.monotonic(), False
    while True:
        try:
            connection, _ = server.accept()
        except TimeoutError:
            if task.is_over():
                raise RuntimeError(f"the task ended before it had connected ({_outcome(task)[1]}).") from None
            task.check()
            if not is_reported and time.monotonic() - begun > REPORTED_AFTER_S:
                is_reported = True
                wait()
            continue
        if _shows(connection, token.encode()):
            server.close()
            if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux: lets `recv` fail if the network has failed
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(frames.SILENCE_S * 1000))
            return connection
        connection.close()


def _shows(connection: socket.socket, token: bytes) -> bool:
    """Return True if a connection begins with the token. No byte after it is read."""
    deadline, shown = time.monotonic() + TOKEN_S, b""
    try:
        while len(shown) < len(token):
            connection.settimeout(max(0.01, deadline - time.monotonic()))
            part = connection.recv(len(token) - len(shown))
            if not part:
                return False
            shown += part
        connection.settimeout(None)
    except OSError:
        return False
    return hmac.compare_digest(shown, token)


def _outcome(task: Task) -> tuple[int, str]:
    """Return the exit code and the last output of a task that is over; if it was lost, Ray's message."""
    try:
        code, printed = task.result()
    except RuntimeError as error:
        return 1, str(error).rstrip(".")
    return code, channel.last_words(printed)
