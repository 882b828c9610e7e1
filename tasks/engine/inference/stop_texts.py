"""Cut answers off before a stop text, and count the tokens of streams, as OpenAI's API does.

`transformers serve` leaves the stop text at the end of an answer, and counts the tokens of every stream in its last choice.
"""

import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Sequence
from contextlib import aclosing
from typing import Any


def checked(stops: Any) -> list[str] | None:
    """Return the field `stop` of a request as a list; None if it has none. Raises ValueError if a stop is no text."""
    listed = [stops] if isinstance(stops, str) else stops or []
    if not (isinstance(listed, list) and all(isinstance(stop, str) and stop for stop in listed)):
        raise ValueError("stop is neither a text nor a list of texts")
    return listed or None


def cut(answer: dict[str, Any], stops: Sequence[str], is_whole: Callable[[], bool]) -> dict[str, Any]:
    """Return a complete answer, cut off before the first stop text. `is_whole` tells whether the answer's last token ended it, even if that
    token was the last that the limit allowed."""
    for choice in answer["choices"]:
        _cut(choice, _UntilStop(stops), is_whole)
    return answer


async def cut_events(
    parts: AsyncGenerator[str], stops: Sequence[str], is_whole: Callable[[], bool], *, with_usage: bool
) -> AsyncIterator[str]:
    """Yield the events of a streamed answer, cut off as `cut` does with a complete one.

    With `with_usage` the last event has the numbers of tokens and no choice, and `usage` is null in the others.
    """
    text = _UntilStop(stops)
    async with aclosing(parts):
        async for part in parts:
            for event in part.strip().split("\n\n"):
                for changed in _changed(event, text, is_whole, with_usage):
                    yield f"{changed}\n\n"


class _UntilStop:
    """Passes on a text, piece by piece, up to the first stop text; an end that may be the beginning of a stop text is held back."""

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops, self._held = stops, ""
        self.is_over = False

    def feed(self, piece: str) -> str:
        """Take a further piece, and return the text that can be passed on."""
        text, self._held = self._held + piece, ""
        places = [place for stop in self._stops if (place := text.find(stop)) >= 0]
        if self.is_over:
            return ""
        if places:
            self.is_over = True
            return text[: min(places)]
        ends = (text[start:] for start in range(len(text)))
        self._held = next((end for end in ends if any(stop.startswith(end) for stop in self._stops)), "")
        return text.removesuffix(self._held)

    def rest(self) -> str:
        """Return the text that was held back, once no further piece follows."""
        return self._held


def _changed(event: str, text: _UntilStop, is_whole: Callable[[], bool], with_usage: bool) -> Iterator[str]:
    """Yield an event as it is sent, and after it, for the event that has them, the numbers of tokens."""
    try:
        chunk = json.loads(event.removeprefix("data: "))
    except ValueError:  # an error, whose text is not escaped
        yield event
        return
    for choice in chunk.get("choices", ()):
        _cut(choice, text, is_whole)
    usage = chunk.pop("usage", None)
    yield _event(chunk | ({"usage": None} if with_usage and "choices" in chunk else {}))
    if with_usage and usage:
        yield _event(chunk | {"choices": [], "usage": usage})


def _event(chunk: dict[str, Any]) -> str:
    return f"data: {json.dumps(chunk, ensure_ascii=False)}"


def _cut(choice: dict[str, Any], text: _UntilStop, is_whole: Callable[[], bool]) -> None:
    """Cut a choice, of a complete answer or of a chunk, off before the stop text."""
    holder = choice.get("delta", choice.get("message", choice))
    key = "text" if holder is choice else "content"
    piece = text.feed(holder.get(key) or "")
    if choice.get("finish_reason"):
        piece += text.rest()
        if choice["finish_reason"] == "length" and (text.is_over or is_whole()):
            choice["finish_reason"] = "stop"
    if piece or key in holder:
        holder[key] = piece
