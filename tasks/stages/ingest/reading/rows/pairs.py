"""Read rows that are only a prompt and a response, as most rows of most tables are, about ten times as fast as other rows.

`example_from_row` would read such a row as the same conversation, and reads all other rows.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from tasks.io.sources.record import Row
from tasks.stages.ingest.config import Rows
from tasks.stages.ingest.reading import cleaning
from tasks.stages.ingest.reading.rows import preferences, tool_calls
from tasks.stages.ingest.reading.rows.conversations import (
    CHOSEN,
    EXTRAS,
    HISTORY,
    PAIRS,
    REJECTED,
    SYSTEM,
    TURNS,
    is_decoded,
)

NEVER = frozenset({*TURNS, *CHOSEN, *REJECTED})
"""Columns that a plain pair never has, whatever they hold."""
EMPTY = (*SYSTEM, *tool_calls.TOOLS, HISTORY, "label", preferences.TAG)
"""Columns that a plain pair may have only if they are empty."""
NOTHING = (None, "")


class Pair(NamedTuple):
    """A conversation of one question and one answer, cleaned."""

    where: str
    prompt: str
    response: str


class _Columns(NamedTuple):
    """The columns of rows that may be plain pairs."""

    prompt: str
    response: str
    extras: Sequence[str]
    """Columns whose texts are added to the prompt."""
    empty: Sequence[str]
    """Columns that must be empty."""


class PairReader:
    """Reads the plain rows of a source."""

    def __init__(self, options: Rows) -> None:
        special = (
            options.columns,
            options.check,
            options.group,
            options.weights,
            options.task_by,
            options.reasoning,
            options.split_by,
        )
        self._is_plain = all(option is None for option in special) and options.calls == "whole"
        self._known: dict[tuple[str, ...], _Columns | None] = {}
        """Names of columns → their use; None if rows with these columns cannot be plain pairs."""

    def read(self, record: Row) -> Pair | None:
        """Return the pair in a row; None if the row is not a plain pair."""
        values = record.values
        names = tuple(values)
        if names not in self._known:
            self._known[names] = _columns(names) if self._is_plain else None
        known = self._known[names]
        if known is None or any(values[name] not in NOTHING for name in known.empty):
            return None
        prompt, response = _prompt(values, known), _text(values[known.response])
        if prompt is None or response is None or "<tool_call>" in response:
            return None
        return Pair(record.where, prompt, response)


def _columns(names: tuple[str, ...]) -> _Columns | None:
    """Return the use of a table's columns; None if its rows are not plain pairs."""
    sides = next((pair for pair in PAIRS if pair[0] in names and pair[1] in names), None)
    if sides is None or NEVER.intersection(names):
        return None
    extras = [name for name in EXTRAS if name in names and name != sides[0]]
    return _Columns(*sides, extras, [name for name in EMPTY if name in names])


def _prompt(values: Mapping[str, Any], columns: _Columns) -> str | None:
    prompt = values[columns.prompt]
    extras = [extra for name in columns.extras if isinstance(extra := values[name], str) and extra]
    return _text("\n\n".join([prompt, *extras]) if extras and isinstance(prompt, str) else prompt)


def _text(value: Any) -> str | None:
    """Return a cleaned text; None if the value is not a readable text, or is empty."""
    if not isinstance(value, str) or not is_decoded(value):
        return None
    return cleaning.clean(value) or None
