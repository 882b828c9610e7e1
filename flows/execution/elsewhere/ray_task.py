"""The task by which a node of a Ray cluster runs the far side. This module travels to the node, which has Ray."""

import socket
import subprocess
import sys
import tempfile

CONNECT_S = 10.0
"""Seconds in which the machine that asks has to answer."""
SAID = 4_000
"""The last bytes of what the far side printed that are told."""


def serve(address: tuple[str, int], token: str, arguments: list[str]) -> tuple[int, bytes]:
    """Connect to the machine that asks, show it the token, say which node this is, and run the far side on that connection.

    Returns the exit code of the far side, and the last of what it printed.
    """
    from ray.util import get_node_ip_address

    node = get_node_ip_address()
    try:
        connection = socket.create_connection(address, CONNECT_S)
    except OSError as error:
        return 1, f"{node} does not reach {address[0]}, port {address[1]}: {error}".encode()
    with connection, tempfile.TemporaryFile() as errors:
        connection.settimeout(None)  # the far side waits as long as it takes
        connection.sendall(f"{token}{node}\n".encode())
        command = [sys.executable, "-P", *arguments]
        code = subprocess.call(command, stdin=connection.fileno(), stdout=connection.fileno(), stderr=errors)
        errors.seek(max(0, errors.seek(0, 2) - SAID))
        return code, errors.read()
