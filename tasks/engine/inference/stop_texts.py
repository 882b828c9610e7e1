"""Answers up to a stop text, which `transformers serve` leaves at their end and OpenAI's API does not."""

import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing
from typing import Any


def checked(stops: Any) -> list[str] | None:
    """Return the field `stop` of a request as a list; None if it has none. Raises ValueError if a stop is no text."""
    listed = [stops] if isinstance(stops, str) else stops or []
    if not (isinstance(listed, list) and all(isinstance(stop, str) and stop for stop in listed)):
        raise ValueError("stop is no text and no list of texts")
    return listed or None


def cut(answer: dict[str, Any], stops: Sequence[str], is_whole: Callable[[], bool]) -> dict[str, Any]:
    """Return a whole answer without what stands from the first stop text on. `is_whole` says whether its last token ended it, which may
    be the last that there could be."""
    for choice in answer["choices"]:
        _cut(choice, _UntilStop(stops), is_whole)
    return answer


async def cut_events(
    parts: AsyncGenerator[str], stops: Sequence[str], is_whole: Callable[[], bool]
) -> AsyncIterator[str]:
    """Yield the events of a streamed answer as `cut` returns a whole one."""
    text = _UntilStop(stops)
    async with aclosing(parts):
        async for part in parts:
            for event in part.strip().split("\n\n"):
                yield f"{_cut_event(event, text, is_whole)}\n\n"


class _UntilStop:
    """Passes a text on, piece by piece, up to the first stop text, and holds back what may be the beginning of one."""

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops, self._held = stops, ""
        self.is_over = False

    def feed(self, piece: str) -> str:
        """Return what can be passed on after a further piece."""
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
        """Return what was held back, once the text has ended."""
        return self._held


def _cut_event(event: str, text: _UntilStop, is_whole: Callable[[], bool]) -> str:
    try:
        chunk = json.loads(event.removeprefix("data: "))
    except ValueError:  # an error, whose text is not escaped
        return event
    for choice in chunk.get("choices", ()):
        _cut(choice, text, is_whole)
    return f"data: {json.dumps(chunk, ensure_ascii=False)}"


def _cut(choice: dict[str, Any], text: _UntilStop, is_whole: Callable[[], bool]) -> None:
    """Leave of a choice, whole or a piece, what stands before the stop text."""
    holder = choice.get("delta", choice.get("message", choice))
    key = "text" if holder is choice else "content"
    piece = text.feed(holder.get(key) or "")
    if choice.get("finish_reason"):
        piece += text.rest()
        if choice["finish_reason"] == "length" and (text.is_over or is_whole()):
            choice["finish_reason"] = "stop"
    if piece or key in holder:
        holder[key] = piece
