"""Guess the conversations in logs of requests to models: of OpenAI, Gemini, Bedrock, LangSmith, Langfuse, OpenTelemetry and others."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tasks.stages.ingest.reading.guesses.names import (
    RESPONSES,
    Guess,
    Rows,
    as_expression,
    first_named,
    parsed,
    quoted,
)
from tasks.stages.ingest.reading.rows.conversations import SYSTEM
from tasks.stages.ingest.reading.rows.turns import role_of

DEEPEST = 6
"""Deepest nesting of objects and lists in which turns are searched."""
TEXTS = ("text", "content", "completion", "generated_text", "output_text")
"""Fields of a response that may hold its text, if it has no turn."""


@dataclass(frozen=True)
class _Place:
    """A value within a row."""

    path: str
    """The template expression of the value."""
    value: Any
    column: str
    above: "_Place | None" = None
    """The object or list that holds the value; None for a column."""

    @property
    def is_parsed(self) -> bool:
        """Return True if the value is within a text that is JSON."""
        return "fromjson" in self.path


def guess_logged(rows: Rows, is_usable: bool = False) -> Guess | None:
    """Return the guess for rows with the turns of a request and, in another place, the answer: a turn, turns or a text.

    If rows are usable without a guess (`is_usable`), the turns must be within texts that are JSON, since such a text is no prompt.
    """
    for row in rows:
        asked = next((place for place in _places(row) if _is_request(place.value)), None)
        answer = asked and _answer(row, asked)
        if asked and answer:
            break
    else:
        return None
    if is_usable and not asked.is_parsed:
        return None
    is_whole = isinstance(answer.value, list) and answer.value[: len(asked.value)] == asked.value
    said = answer.path if is_whole else f"({_system(asked)}{asked.path} + {_as_turns(answer)})"
    reason = f"{asked.column!r} holds the messages of a request, and {answer.column!r} what was answered"
    return Guess({"messages": f"{{{{ {said} | tojson }}}}"}, None, reason)


def _places(row: Mapping[str, Any]) -> Iterator[_Place]:
    """Yield the values of a row and, below each, the fields of its objects and the first elements of its lists."""
    for column, value in row.items():
        yield from _below(_Place(as_expression(column), value, column), DEEPEST)


def _below(place: _Place, depth: int) -> Iterator[_Place]:
    inside = parsed(place.value)
    if inside is not None:
        place = _Place(f"({place.path} | fromjson)", inside, place.column, place.above)
    yield place
    inner: list[tuple[str, Any]] = []
    if isinstance(place.value, Mapping):
        inner = [(quoted(str(name)), value) for name, value in place.value.items()]
    elif isinstance(place.value, list) and place.value:
        inner = [("0", place.value[0])]
    for key, value in inner if depth else ():
        yield from _below(_Place(f"{place.path}[{key}]", value, place.column, place), depth - 1)


def _is_request(value: Any) -> bool:
    """Return True for turns of which the last one waits for an answer."""
    if not isinstance(value, list) or not value:
        return False
    roles = [role_of(turn) for turn in value]
    return None not in roles and roles[-1] in ("user", "tool")


def _answer(row: Mapping[str, Any], asked: _Place) -> _Place | None:
    """Return the place of the answer to a request: turns of which the last one is the assistant's, else its turn, else a text.

    None if several columns have an answer, since one of them may be the better one.
    """
    others = [place for place in _places(row) if not place.path.startswith(asked.path)]
    told = [
        place
        for place in others
        if role_of(place.value[-1] if isinstance(place.value, list) and place.value else place.value) == "assistant"
    ]
    if len({place.column for place in told}) > 1:
        return None
    texts = (
        place
        for place in others
        if isinstance(place.value, str)
        and place.value.strip()
        and place.column != asked.column
        and first_named([place.column], RESPONSES)
        and (place.above is None or place.path.endswith(tuple(f"[{quoted(name)}]" for name in TEXTS)))
    )
    return next(iter(told), None) or next(texts, None)


def _as_turns(answer: _Place) -> str:
    """Return the template expression of the turns of an answer."""
    if isinstance(answer.value, list):
        return answer.path
    return f"[{answer.path}]" if role_of(answer.value) else f"[{{'role': 'assistant', 'content': {answer.path}}}]"


def _system(asked: _Place) -> str:
    """Return the template expression of the system message beside the turns of a request; empty if there is none.

    A column of the row is left to the reader of rows, which puts it before the turns.
    """
    body = asked.above
    name = body and next((name for name in SYSTEM if isinstance(body.value, Mapping) and body.value.get(name)), None)
    if not body or not name:
        return ""
    value = f"{body.path}.get({quoted(name)})"
    turn = (
        f"dict({value}, role='system')"
        if isinstance(body.value[name], Mapping)
        else f"{{'role': 'system', 'content': {value}}}"
    )
    return f"([{turn}] if {value} else []) + "
