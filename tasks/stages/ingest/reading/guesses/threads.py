"""Guess the columns of a table with one message in each row."""

from collections.abc import Sequence
from typing import Any

from tasks.stages.ingest.reading.guesses.names import (
    MEASURES,
    TEXTS,
    Guess,
    Rows,
    first_named,
    is_about,
    names_of,
    text_columns,
)
from tasks.stages.ingest.reading.rows.turns import ROLES
from tasks.stages.ingest.reading.threads import message_name, moment

SPEAKERS = ("role", "speaker", "sender", "author", "from", "participant", "direction")
"""Words for the speaker of a message."""
THREADS = ("conversation", "conv", "thread", "ticket", "session", "chat", "dialogue", "dialog", "case", "issue", "tree")
"""Words for the conversation of a message."""
PARENTS = ("parent", "reply", "replied", "answers")
"""Words for the message that a message answers."""
MOMENTS = ("order", "turn", "index", "idx", "position", "timestamp", "created", "sent", "time", "date")
"""Words for the time or position of a message."""


def guess_thread(rows: Rows) -> Guess | None:
    """Return the guess for a table with one message in each row: speaker, text, conversation and order."""
    names = names_of(rows)
    by, speaker = thread_columns(rows, names)
    if by is None or speaker is None:
        return None
    name, parent = _tree_columns(rows, by, [other for other in names if other not in (by, speaker)])
    texts = [other for other in text_columns(rows, names) if other not in (by, speaker, name, parent)]
    if not texts:
        return None
    known = {ROLES.get(str(row.get(speaker)).strip().lower()) for row in rows}
    roles = {} if None not in known and {"user", "assistant"} <= known else _two_speakers(rows, by, speaker)
    if roles is None:
        return None
    content = first_named(texts, TEXTS) or texts[0]
    columns: dict[str, Any] = {"by": by, "role": speaker, "content": content}
    reason = f"a row is one message: {by!r} tells its conversation, {speaker!r} who says {content!r}"
    if roles:
        columns |= {"roles": roles}
        reason += f" ({next(iter(roles))!r} begins, and is taken for the user)"
    if parent is not None:
        reason += f", {parent!r} which one it answers"
        columns |= {"id": name, "parent": parent}
    dates = [
        other for other in names if other not in (by, speaker, content, name, parent) and _is_sorted_by(rows, other)
    ]
    if order := first_named(dates, MOMENTS):
        return Guess({}, None, f"{reason}, {order!r} when", columns | {"order": order})
    return Guess({}, None, reason, columns)


def thread_columns(rows: Rows, names: Sequence[str]) -> tuple[str | None, str | None]:
    """Return the columns of the conversation and of the speaker, in a table with one message in each row; None for a missing column."""
    speaker = first_named(names, SPEAKERS)
    if speaker is None:
        return None, None
    repeated = [name for name in names if name != speaker and len({str(row.get(name)) for row in rows}) < len(rows)]
    return first_named(repeated, THREADS), speaker


def _tree_columns(rows: Rows, by: str, names: Sequence[str]) -> tuple[str | None, str | None]:
    """Return the columns of a message's id and of the message that it answers; None for both if no column refers to other messages.

    Some messages must answer none, and the others a message of the same conversation.
    """
    for parent in names:
        if first_named([parent], PARENTS) is None or is_about(parent, MEASURES):
            continue
        answers = [row for row in rows if row.get(parent) not in (None, "")]
        above = {(str(row.get(by)), message_name(row[parent])) for row in answers}
        for name in names if 0 < len(answers) < len(rows) else ():
            known = {(str(row.get(by)), message_name(row.get(name))) for row in rows}
            if name != parent and len(known) == len(rows) and above <= known:
                return name, parent
    return None, None


def _two_speakers(rows: Rows, by: str, speaker: str) -> dict[str, str] | None:
    """Return the roles of two speakers, one of whom begins every conversation; None if there are no such two."""
    begins: dict[str, str] = {}
    for row in rows:
        begins.setdefault(str(row.get(by)), str(row.get(speaker)).strip())
    speakers = {str(row.get(speaker)).strip() for row in rows}
    if len(speakers) != len(("user", "assistant")) or len(set(begins.values())) != 1:
        return None
    (user,) = set(begins.values())
    return {user: "user", (speakers - {user}).pop(): "assistant"}


def _is_sorted_by(rows: Rows, name: str) -> bool:
    """Return True if the values of a column can be ordered: all are numbers, or all are dates."""
    try:
        return bool(sorted(moment(row.get(name)) for row in rows))
    except (TypeError, ValueError):
        return False
