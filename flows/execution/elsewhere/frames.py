"""Send and receive frames over a pair of pipes or a socket: a line of JSON, followed by as many bytes as the line says.

Both sides of a connection have this file. It needs only the standard library.
"""

import hashlib
import json
import os
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import IO, Any

OPENING = b"the far side of ratchet begins\n"
"""The line before the first frame of a far side. A shell may print a greeting before it."""
PART = 2**20
"""Bytes of a file that are read, sent and written at a time."""
BEAT, BEAT_S = "beat", 5.0
"""The frame by which the near side shows that it is alive, and the seconds between two of them."""
SILENCE_S = 60.0
"""Seconds without a sign of life after which the other side counts as gone: a network failure closes no connection."""
Frame = dict[str, Any]


class Gone(ConnectionError):
    """Raised if the other side has gone."""


class Link:
    """One end of a connection. Several threads may send, one receives."""

    def __init__(self, incoming: IO[bytes], outgoing: IO[bytes]) -> None:
        self._incoming, self._outgoing = incoming, outgoing
        self._one_at_a_time = threading.Lock()
        self.heard = time.monotonic()
        """When something was last received."""

    def open(self) -> None:
        """Tell the other side that frames follow."""
        with self._one_at_a_time:
            self._write(OPENING)

    def wait_until_open(self) -> None:
        """Skip everything before the frames of the other side. Raises Gone at the end of the connection."""
        line = b""
        while not line.endswith(OPENING):
            if not (line := self._read(self._incoming.readline)):
                raise Gone("the connection ended")

    def send(self, kind: str, /, **values: Any) -> None:
        """Send a frame. Raises Gone if the other side no longer receives."""
        with self._one_at_a_time:
            self._write(json.dumps({"kind": kind, **values}).encode() + b"\n")

    def send_file(self, path: Path, kind: str, /, **values: Any) -> None:
        """Send a frame with the contents of a file."""
        with self._one_at_a_time, path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            self._write(json.dumps({"kind": kind, "size": size, **values}).encode() + b"\n")
            while size:
                part = file.read(min(PART, size))
                if not part:
                    raise OSError(f"{path} became shorter while it was sent")
                size -= len(part)
                self._write(part)

    def receive(self) -> Frame:
        """Wait for the next frame. If it announces a file, receive that next. Raises Gone at the end of the connection."""
        while True:
            line = self._read(self._incoming.readline)
            if not line.endswith(b"\n"):
                raise Gone("the connection ended")
            self.heard = time.monotonic()
            if (frame := dict(json.loads(line)))["kind"] != BEAT:
                return frame

    def receive_file(self, frame: Frame, path: Path) -> str:
        """Write the bytes that follow a frame to a file, and return their SHA-256."""
        left, hasher = int(frame["size"]), hashlib.sha256()
        with path.open("wb") as file:
            while left:
                part = self._read(partial(self._incoming.read, min(PART, left)))
                if not part:
                    raise Gone("the connection ended")
                self.heard = time.monotonic()
                left -= len(part)
                hasher.update(part)
                file.write(part)
        return hasher.hexdigest()

    def _read(self, read: Callable[[], bytes]) -> bytes:
        try:
            return read()
        except (ConnectionError, TimeoutError, ValueError):
            raise Gone("the connection ended") from None

    def _write(self, content: bytes) -> None:
        try:
            self._outgoing.write(content)
            self._outgoing.flush()
        except (ConnectionError, TimeoutError, ValueError):  # ValueError: the pipe is closed on this side
            raise Gone("the connection ended") from None
