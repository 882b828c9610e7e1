"""Ports of this machine."""

import socket

from flows.execution import prefect_server

HOST = "127.0.0.1"
"""Servers listen to this machine alone."""


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
