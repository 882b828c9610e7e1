"""Ports of this machine, and the hosts that requests to them may name."""

import socket

from flows.execution import prefect_server

HOST = "127.0.0.1"
"""Servers listen to this machine alone."""
HOSTS = frozenset({HOST, "localhost"})
"""Hosts that a request may name: a page of another site that leads its own name here is refused."""


def listen(port: int, command: str) -> socket.socket:
    """Return a socket that listens to the port; 0 is any free one. Raises RuntimeError that names who has it, and the command to try."""
    listener = socket.socket()
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((HOST, port))
        listener.listen(512)
    except OSError:
        listener.close()
        owner = prefect_server.port_owner(port) or "another process"
        raise RuntimeError(f"port {port} is taken by {owner}. Another one: {command} --port {port + 1}") from None
    return listener


def is_here(authority: str) -> bool:
    """Return True for a host of this machine, with a port or without."""
    host, _, last = authority.rpartition(":")
    return (host or last) in HOSTS
