"""Join the messages of a table that holds one a row into conversations."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from itertools import groupby
from typing import TYPE_CHECKING, Any

import polars as pl

from tasks.core.records import Unfit
from tasks.io.sources.record import Broken, Record, Row
from tasks.io.system import scratch
from tasks.stages.ingest.columns_config import Thread
from tasks.stages.ingest.reading import cleaning
from tasks.stages.ingest.reading.rows import turns

if TYPE_CHECKING:
    import duckdb

MEMORY = "1GB"
"""Memory of DuckDB; messages beyond it are sorted in files."""
AT_ONCE = 10_000
"""Messages that go into the database, or come from it, at once."""
SCHEMA = {"number": pl.Int64, "label": pl.String, "thread": pl.String, "place": pl.String, "message": pl.String}
BY_THREAD = """
SELECT first, label, place, message
FROM (SELECT *, min(number) OVER (PARTITION BY label, thread) AS first FROM messages)
ORDER BY first, number
"""
FIELDS = ("weight", "train", "loss", "tool_calls", "function_call", "tool_call_id")
"""The columns that go with a message into its turn."""
NOTHING: tuple[Any, ...] = (None, "", [])
SEPARATOR = "\n"
"""Stands between messages that are one turn."""


def joined(records: Iterable[tuple[str, Record]], thread: Thread) -> Iterator[tuple[str, Record]]:
    """Yield a row for each conversation, in the order of their first messages, after the records that are no messages.

    Its `messages` are the turns. Beside them stand the columns in which all messages of the conversation agree.
    """
    with _database() as connection:
        number, held = 0, list[tuple[int, str, str, str, str]]()
        for label, record in records:
            if not isinstance(record, Row) or not {thread.by, thread.role, thread.content} <= record.values.keys():
                yield label, record
                continue
            name = record.values[thread.by]
            if name is None or name == "":
                detail = f"the column {thread.by!r} is empty, so it belongs to no conversation"
                yield label, Broken(record.where, "no conversation", detail, cleaning.beginning(record.values))
                continue
            held.append((number, label, _as_json(name), record.where, _as_json(record.values)))
            number += 1
            if len(held) == AT_ONCE:
                _insert(connection, held)
        _insert(connection, held)
        for (_, label), rows in groupby(_selected(connection), key=lambda row: row[:2]):
            places, messages = zip(*((place, json.loads(message)) for _, _, place, message in rows), strict=True)
            values = _conversation(messages, thread)
            if isinstance(values, Unfit):
                yield label, Broken(places[0], values.reason, values.detail, cleaning.beginning(messages[0]))
            else:
                yield label, Row(places[0], values)


def _conversation(messages: Sequence[Mapping[str, Any]], thread: Thread) -> dict[str, Any] | Unfit:
    """Return the row of a conversation, of which these are the messages."""
    if (order := thread.order) is not None:
        try:
            messages = sorted(messages, key=lambda message: moment(message.get(order)))
        except (TypeError, ValueError):
            values = ", ".join(str(message.get(order)) for message in messages)
            return Unfit(
                "no order",
                f"the column {order!r} holds {values}, which are neither numbers nor dates of ISO 8601 all alike. Sort the rows, and leave "
                "`order` out",
            )
    own = {thread.role, thread.content, order, *FIELDS}
    agreed = {
        name: value
        for name, value in messages[0].items()
        if name not in own and all(message.get(name) == value for message in messages)
    }
    return agreed | {"messages": _turns(messages, thread)}


def moment(value: Any) -> float | datetime:
    """Return a number or a date as something that can be compared. Raises ValueError or TypeError if it is neither."""
    try:
        return float(value)
    except ValueError:
        return datetime.fromisoformat(value)


def _turns(messages: Sequence[Mapping[str, Any]], thread: Thread) -> list[dict[str, Any]]:
    """Return the turns from the first question, with the system's message before it, to the last answer."""
    made: list[dict[str, Any]] = []
    for message in messages:
        spelled = str(message[thread.role]).strip()
        role = thread.roles.get(spelled, turns.ROLES.get(spelled.lower(), thread.others or spelled))
        if role is None:
            continue
        further = {name: message[name] for name in FIELDS if message.get(name) not in NOTHING}
        made.append({**further, "role": role, "content": message[thread.content]})
    made = turns.merged(made, SEPARATOR)
    roles = [turn["role"] for turn in made]
    if not {"user", "assistant"} <= set(roles):
        return made
    first, last = roles.index("user"), len(roles) - roles[::-1].index("assistant")
    return [turn for turn in made[:first] if turn["role"] == "system"] + made[first:last]


def _as_json(value: Any) -> str:
    """Return a value as ASCII, whatever characters it has; dates and the like as texts."""
    return json.dumps(value, default=str)


@contextmanager
def _database() -> "Iterator[duckdb.DuckDBPyConnection]":
    """Yield an empty table of messages, which is on disk as far as it does not fit in memory."""
    import duckdb

    with scratch.folder("threads") as folder:
        settings: dict[str, Any] = {"memory_limit": MEMORY, "temp_directory": str(folder)}
        with duckdb.connect(str(folder / "messages.duckdb"), config=settings) as connection:
            connection.register("empty", pl.DataFrame(schema=SCHEMA).to_arrow())
            connection.execute("CREATE TABLE messages AS SELECT * FROM empty")
            yield connection


def _insert(connection: "duckdb.DuckDBPyConnection", held: list[tuple[int, str, str, str, str]]) -> None:
    """Put the messages that are held into the table, and hold none."""
    connection.register("held", pl.DataFrame(held, SCHEMA, orient="row").to_arrow())
    connection.execute("INSERT INTO messages SELECT * FROM held")
    held.clear()


def _selected(connection: "duckdb.DuckDBPyConnection") -> Iterator[tuple[int, str, str, str]]:
    """Yield the messages conversation by conversation: number of the first one, label, place, and the message as JSON."""
    selected = connection.execute(BY_THREAD)
    while rows := selected.fetchmany(AT_ONCE):
        yield from rows
