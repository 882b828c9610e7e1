"""Find and check ports of this machine, and the hosts that requests to them may name."""

import socket
from collections.abc import Collection, Mapping
from contextlib import ExitStack
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import psutil

HOST = "127.0.0.1"
"""Servers listen on this address alone: Prefect's API, for example, has no password unless PREFECT_SERVER_API_AUTH_STRING sets one."""
HOSTS = frozenset({HOST, "localhost"})
"""Hosts that a request may name. A foreign site whose domain name resolves to this machine is refused (DNS rebinding)."""


def listen(port: int, command: str) -> socket.socket:
    """Return a socket that listens on the port; 0 is any free one. Raises RuntimeError with the port's owner and the command to try."""
    listener = socket.socket()
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((HOST, port))
        listener.listen(512)
    except OSError:
        listener.close()
        owner = port_owner(port) or "another process"
        raise RuntimeError(f"port {port} is taken by {owner}. Another one: {command} --port {port + 1}") from None
    return listener


def is_here(authority: str) -> bool:
    """Return True for a host of this machine, with a port or without."""
    return host_of(authority) in HOSTS


def host_of(address: str) -> str:
    """Return the host of an origin (`https://host:port`) or of an authority, with or without a port."""
    host, _, last = address.rpartition("://")[2].rpartition(":")
    return host or last


def refusal(headers: Mapping[str, str], hosts: Collection[str] = HOSTS) -> str | None:
    """Return why a request is refused: it names another host, or a page of another site sent it. None for all other requests.

    A link that a person follows from a message or another site is answered, because no page can read the answer.
    """
    if host_of(headers.get("host", "")) not in hosts:
        return f"This server accepts only the hosts {' and '.join(sorted(hosts))}."
    if "origin" in headers:  # decides alone: to a browser, 127.0.0.1 and localhost are two sites
        is_foreign = host_of(headers["origin"]) not in hosts
    else:
        is_foreign = headers.get("sec-fetch-site") == "cross-site" and headers.get("sec-fetch-dest") != "document"
    return "This server refuses requests from pages of other sites." if is_foreign else None


def free_port() -> int:
    """Return a port that nothing listens to."""
    (port,) = free_ports(1)
    return port


def free_ports(count: int) -> list[int]:
    """Return `count` different free ports. They are kept open until all are known, as a released port could be given out again."""
    with ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind((HOST, 0))
        return [int(probe.getsockname()[1]) for probe in probes]


def port_owner(port: int) -> str | None:
    """Return the process that listens on a port of this machine; None if the port is free."""
    try:
        return None if is_free(port) else _name_of_port_owner(port)
    except PermissionError:
        return "the system: ports below 1024 need root"


def is_free(port: int) -> bool:
    """Return True if nobody listens on a port of this machine. Raises PermissionError if this user may not use the port."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except PermissionError:
            raise
        except OSError:
            return False
    return True


def _name_of_port_owner(port: int) -> str:
    process = listener(port)
    return (
        f"process {process.pid} ({' '.join(process.info['cmdline'])[:80]})" if process else "a process of another user"
    )


def listener(port: int) -> "psutil.Process | None":
    """Return the process that listens on a port; None if there is none, or if this user may not inspect it."""
    import psutil

    for process in psutil.process_iter(["cmdline"]):
        try:
            held = {at.laddr.port for at in process.net_connections(kind="inet") if at.status == psutil.CONN_LISTEN}
        except psutil.Error:
            continue  # gone by now, or another user's
        if port in held:
            return process
    return None
