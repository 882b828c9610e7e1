"""Join the messages of a table with one message in each row into conversations."""

import json
import math
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
"""Memory limit of DuckDB; beyond it, messages are sorted on disk."""
AT_ONCE = 10_000
"""Number of messages in one transfer to or from the database."""
SCHEMA = {"number": pl.Int64, "label": pl.String, "thread": pl.String, "place": pl.String, "message": pl.String}
BY_THREAD = """
SELECT first, label, place, message
FROM (SELECT *, min(number) OVER (PARTITION BY label, thread) AS first FROM messages)
ORDER BY first, number
"""
FIELDS = ("weight", "train", "loss", "tool_calls", "function_call", "tool_call_id")
"""The columns of a message that become fields of its turn."""
NOTHING: tuple[Any, ...] = (None, "", [])
Message = Mapping[str, Any]
"""The columns of one message."""
SEPARATOR = "\n"
"""Separates messages that are joined to one turn."""


def joined(records: Iterable[tuple[str, Record]], thread: Thread) -> Iterator[tuple[str, Record]]:
    """Yield a row for each conversation, in the order of their first messages, after all records that are not messages.

    Its column `messages` holds the turns. The row also has the columns in which all messages of the conversation agree.
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
            messages = [Row(place, json.loads(message)) for _, _, place, message in rows]
            branches = _branches(messages, thread)
            if isinstance(branches, Unfit):
                first = messages[0]
                yield label, Broken(first.where, branches.reason, branches.detail, cleaning.beginning(first.values))
            else:
                yield from ((label, Row(where, _conversation(branch, thread))) for where, branch in branches)


def _branches(messages: Sequence[Row], thread: Thread) -> list[tuple[str, Sequence[Message]]] | Unfit:
    """Return, for each row that a conversation becomes, its place and its messages in order."""
    ordered = _ordered(messages, thread.order)
    if isinstance(ordered, Unfit):
        return ordered
    if thread.id is None or thread.parent is None:
        return [(messages[0].where, [message.values for message in ordered])]
    return _branches_of_tree(ordered, thread, thread.id, thread.parent)


def _ordered(messages: Sequence[Row], order: str | None) -> Sequence[Row] | Unfit:
    """Return the messages of a conversation in the order of a column."""
    if order is None:
        return messages
    try:
        return sorted(messages, key=lambda message: moment(message.values.get(order)))
    except (TypeError, ValueError):
        values = ", ".join(str(message.values.get(order)) for message in messages)
        return Unfit(
            "no order",
            f"the column {order!r} holds {values}, which are neither numbers nor dates of ISO 8601 all alike. Sort the rows, and leave "
            "`order` out",
        )


def _branches_of_tree(
    messages: Sequence[Row], thread: Thread, id: str, parent: str
) -> list[tuple[str, Sequence[Message]]] | Unfit:
    """Return the branches of a tree, each from its first message to an answer with no later answer below it, with the place of that answer.

    A turn whose answers are all in earlier branches gets weight 0. A tree without an answer is one branch with all its messages.
    """
    circle = Unfit("no first message", f"by the column {parent!r} some messages answer each other in a circle")
    by_name = {message_name(message.values.get(id)): message for message in messages}
    if len(by_name) < len(messages):
        return Unfit("repeated id", f"several messages of a conversation have one value in the column {id!r}")
    roles = {name: _role(message.values, thread) for name, message in by_name.items()}
    answers = {name for name, role in roles.items() if role == "assistant"}
    above = {name: message_name(message.values.get(parent)) for name, message in by_name.items()}
    inner = set[str]()
    for name in answers:
        while (name := above[name]) in by_name and name not in inner:
            inner.add(name)
    branches, trained = list[tuple[str, Sequence[Message]]](), set[str]()
    for name in (name for name in by_name if name in answers - inner):
        path = [name]
        while len(path) <= len(by_name) and (name := above[name]) in by_name:
            path.append(name)
        if len(path) > len(by_name):
            return circle
        path.reverse()
        repeated = _repeated(path, roles, trained)
        branch = [by_name[name].values | ({"weight": 0} if name in repeated else {}) for name in path]
        branches.append((by_name[path[-1]].where, branch))
        trained |= answers.intersection(path)
    if trained < answers:
        return circle
    return branches or [(messages[0].where, [message.values for message in messages])]


def _repeated(path: Sequence[str], roles: Mapping[str, str | None], trained: set[str]) -> set[str]:
    """Return the messages of those turns of a branch that earlier branches train already. A message that is left out belongs to no turn."""
    spoken = (name for name in path if roles[name] is not None)
    sides = (set(names) for _, names in groupby(spoken, key=roles.__getitem__))
    return set[str]().union(*(names for names in sides if names <= trained))


def message_name(value: Any) -> str:
    """Return the id of a message as text; a whole number without decimals, since pandas writes 11 as 11.0 if some rows have no id."""
    name = str(value)
    number = name.removesuffix(".0")
    return number if number.isdecimal() else name


def _conversation(messages: Sequence[Message], thread: Thread) -> dict[str, Any]:
    """Return the row of a conversation with these messages."""
    own = {thread.role, thread.content, thread.order, thread.id, thread.parent, *FIELDS}
    agreed = {
        name: value
        for name, value in messages[0].items()
        if name not in own and all(message.get(name) == value for message in messages)
    }
    return agreed | {"messages": _turns(messages, thread)}


def moment(value: Any) -> int | float | datetime:
    """Return a number or a date in a form that can be compared. Raises ValueError or TypeError if the value is neither."""
    if isinstance(value, int) or (isinstance(value, str) and value.strip().isdecimal()):
        return int(value)  # as floats, several 64-bit ids would be equal
    try:
        number = float(value)
    except ValueError:
        return datetime.fromisoformat(value)
    if math.isnan(number):
        raise ValueError("NaN is neither before nor after anything")
    return number


def _turns(messages: Sequence[Message], thread: Thread) -> list[dict[str, Any]]:
    """Return the turns from the first question, with the system's message before it, to the last answer."""
    made: list[dict[str, Any]] = []
    for message in messages:
        role = _role(message, thread)
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


def _role(message: Message, thread: Thread) -> str | None:
    """Return the role of a message, an unknown one as spelled; None for a message that is left out."""
    spelled = str(message[thread.role]).strip()
    return thread.roles.get(spelled, turns.ROLES.get(spelled.lower(), thread.others or spelled))


def _as_json(value: Any) -> str:
    """Return a value as JSON in ASCII; dates and similar values become texts."""
    return json.dumps(value, default=str)


@contextmanager
def _database() -> "Iterator[duckdb.DuckDBPyConnection]":
    """Yield a database with an empty table of messages, which spills to disk if it does not fit in memory."""
    import duckdb

    with scratch.folder("threads") as folder:
        settings: dict[str, Any] = {"memory_limit": MEMORY, "temp_directory": str(folder)}
        with duckdb.connect(str(folder / "messages.duckdb"), config=settings) as connection:
            connection.register("empty", pl.DataFrame(schema=SCHEMA).to_arrow())
            connection.execute("CREATE TABLE messages AS SELECT * FROM empty")
            yield connection


def _insert(connection: "duckdb.DuckDBPyConnection", held: list[tuple[int, str, str, str, str]]) -> None:
    """Insert the held messages into the table, and clear the list."""
    connection.register("held", pl.DataFrame(held, SCHEMA, orient="row").to_arrow())
    connection.execute("INSERT INTO messages SELECT * FROM held")
    held.clear()


def _selected(connection: "duckdb.DuckDBPyConnection") -> Iterator[tuple[int, str, str, str]]:
    """Yield the messages grouped by conversation: number of the conversation's first message, label, place, and the message as JSON."""
    selected = connection.execute(BY_THREAD)
    while rows := selected.fetchmany(AT_ONCE):
        yield from rows
