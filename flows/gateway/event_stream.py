"""Server-sent events of a streamed answer, read as they pass by."""

import json
from typing import Any

DATA, DONE = b"data: ", b"data: [DONE]"
END = DONE + b"\n\n"


class EventStream:
    """The usage that a stream tells, and whether it ended as OpenAI's do. Pieces may break lines anywhere."""

    def __init__(self) -> None:
        self.usage: dict[str, Any] = {}
        self.is_done = False
        self._line = b""

    def feed(self, piece: bytes) -> None:
        """Read a further piece."""
        *lines, self._line = (self._line + piece).split(b"\n")
        for line in lines:
            if line.startswith(DONE):
                self.is_done = True
            elif line.startswith(DATA) and b'"usage"' in line:
                self.usage = usage_of(line.removeprefix(DATA)) or self.usage


def usage_of(content: bytes) -> dict[str, Any]:
    """Return the tokens that an answer or a chunk of it tells; none if it tells none."""
    try:
        answer = json.loads(content)
    except ValueError:
        return {}
    usage = answer.get("usage") if isinstance(answer, dict) else None
    return usage if isinstance(usage, dict) else {}
