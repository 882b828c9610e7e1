"""Define the task by which a node of a Ray cluster runs the far side. Ray copies this module to the node."""

import socket
import subprocess
import sys
import tempfile

CONNECT_S = 10.0
"""Seconds within which the near side has to accept the connection."""
SAID = 4_000
"""The number of bytes that are returned from the end of the far side's output."""


def serve(address: tuple[str, int], token: str, arguments: list[str]) -> tuple[int, bytes]:
    """Connect to the near side at `address`, send the token and the address of this node, and run the far side on that connection.

    Returns the exit code of the far side, and the end of its output on stderr.
    """
    from ray.util import get_node_ip_address

    node = get_node_ip_address()
    try:
        connection = socket.create_connection(address, CONNECT_S)
    except OSError as error:
        return 1, f"{node} does not reach {address[0]}, port {address[1]}: {error}".encode()
    with connection, tempfile.TemporaryFile() as errors:
        connection.settimeout(None)  # the far side waits without a time limit
        connection.sendall(f"{token}{node}\n".encode())
        command = [sys.executable, "-P", *arguments]
        code = subprocess.call(command, stdin=connection.fileno(), stdout=connection.fileno(), stderr=errors)
        errors.seek(max(0, errors.seek(0, 2) - SAID))
        return code, errors.read()
