"""Read the server-sent events of a streamed answer while they are relayed."""

import json
from collections.abc import Mapping
from typing import Any

DATA, DONE = b"data: ", b"data: [DONE]"
ERROR = b'data: {"error"'
END = DONE + b"\n\n"


class EventStream:
    """Reads from a stream its token usage, whether it ended with `[DONE]`, and an error. Pieces may split lines."""

    def __init__(self, answer: "Answer | None" = None, *, with_usage: bool = True) -> None:
        """`answer` collects the chunks of the stream. Without `with_usage` an event that has only the token usage is not passed on."""
        self.usage: dict[str, Any] = {}
        self.is_done = False
        self.error = b""
        """The backend's error message; empty if it did not fail."""
        self.rest = b""
        """The incomplete line at the end of what was read."""
        self._answer, self._with_usage, self._omits_next = answer, with_usage, False

    def feed(self, piece: bytes) -> bytes:
        """Read the next piece, and return the lines that it completes, up to an error."""
        *lines, self.rest = (self.rest + piece).split(b"\n")
        passed = b""
        for line in lines:
            if line.startswith(ERROR):
                self.error = line.removeprefix(DATA)
                break
            omits, self._omits_next = self._omits_next and not line.strip(), False
            if line.startswith(DONE):
                self.is_done = True
            elif line.startswith(DATA) and (self._answer or b'"usage"' in line):
                chunk = parsed(line.removeprefix(DATA))
                self.usage = usage_of(chunk) or self.usage
                omits = self._omits_next = not (self._with_usage or chunk.get("choices")) and bool(usage_of(chunk))
                if self._answer:
                    self._answer.add(chunk)
            passed += b"" if omits else line + b"\n"
        return passed


class Answer:
    """A streamed answer, assembled to the form of one that is sent at once: its text, and its tool calls."""

    def __init__(self) -> None:
        self._texts: dict[tuple[int, str], list[str]] = {}
        self._calls: dict[tuple[int, int], dict[str, str]] = {}

    def add(self, chunk: Mapping[str, Any]) -> None:
        """Add the contents of a chunk. Parts in another form than OpenAI's are left out."""
        for choice in _mappings(chunk.get("choices")):
            index, delta = int(choice.get("index") or 0), choice.get("delta")
            pieces = [
                ("text", choice.get("text")),
                *([("content", delta.get("content"))] if isinstance(delta, dict) else []),
            ]
            for kind, piece in pieces:
                if isinstance(piece, str):
                    self._texts.setdefault((index, kind), []).append(piece)
            for call in _mappings(delta.get("tool_calls") if isinstance(delta, dict) else None):
                known = self._calls.setdefault((index, int(call.get("index") or 0)), {"name": "", "arguments": ""})
                for function in _mappings([call.get("function")]):
                    for part in known:
                        known[part] += str(function.get(part) or "")

    @property
    def whole(self) -> dict[str, Any]:
        """The answer so far."""
        choices: dict[int, dict[str, Any]] = {}
        for (index, kind), pieces in self._texts.items():
            text = "".join(pieces)
            told: dict[str, Any] = (
                {"text": text} if kind == "text" else {"message": {"role": "assistant", "content": text}}
            )
            choices.setdefault(index, {"index": index}).update(told)
        for (index, _), function in self._calls.items():
            message = choices.setdefault(index, {"index": index}).setdefault(
                "message", {"role": "assistant", "content": None}
            )
            message.setdefault("tool_calls", []).append({"type": "function", "function": function})
        return {"choices": list(choices.values())}


def _mappings(values: Any) -> list[dict[str, Any]]:
    """Return the mappings among the values of a list; none of anything else."""
    return [value for value in values if isinstance(value, dict)] if isinstance(values, list) else []


def parsed(content: bytes) -> dict[str, Any]:
    """Return an answer or a chunk as a mapping; an empty one if the content is no JSON object."""
    try:
        answer = json.loads(content)
    except ValueError:
        return {}
    return answer if isinstance(answer, dict) else {}


def usage_of(answer: Mapping[str, Any]) -> dict[str, Any]:
    """Return the token usage in an answer or a chunk; empty if it has none."""
    usage = answer.get("usage")
    return usage if isinstance(usage, dict) else {}
