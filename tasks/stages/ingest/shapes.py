"""The usual shapes of a supervised row, each as one conversation."""

from collections.abc import Mapping
from typing import Any

from tasks.core.records import Message, Unfit
from tasks.stages.ingest import texts

ROLES = {"system": "system", "user": "user", "assistant": "assistant", "human": "user", "gpt": "assistant"}
PAIRS = (
    ("prompt", "completion"),
    ("prompt", "response"),
    ("prompt", "correct"),
    ("instruction", "output"),
    ("question", "answer"),
    ("question", "response"),
)
SYSTEM = ("system", "system_prompt")
EXPECTED = "messages · conversations · " + " · ".join(f"{asked} + {told}" for asked, told in PAIRS)


def conversation(row: Mapping[str, Any]) -> list[Message] | Unfit:
    """The messages of a row, or why it has none. The last message is the assistant's."""
    turns = _turns(row)
    if isinstance(turns, Unfit):
        return turns
    messages = []
    for number, turn in enumerate(turns, 1):
        message = _message(turn, number)
        if isinstance(message, Unfit):
            return message
        messages.append(message)
    return _in_order(messages)


def response(row: Mapping[str, Any]) -> str:
    """The last message of a row that is a conversation, as it stands there."""
    turns = _turns(row)
    assert not isinstance(turns, Unfit)
    return str(turns[-1].get("content", turns[-1].get("value")))


def is_text(text: str) -> bool:
    """Whether the text is free of lone surrogates and of the mark that a decoder leaves for bytes it cannot read."""
    return "\ufffd" not in text and not any("\ud800" <= letter <= "\udfff" for letter in text)


def _turns(row: Mapping[str, Any]) -> list[Any] | Unfit:
    """The raw turns of whichever shape the row has."""
    for name in ("messages", "conversations"):
        if row.get(name) is not None:
            turns = row[name]
            return turns if isinstance(turns, list) else Unfit("not a list of turns", f"{name} is {_kind(turns)}")
    for asked, told in PAIRS:
        if row.get(asked) is not None and told in row:
            return _system(row) + _side(row[asked], "user", row.get("input")) + _side(row[told], "assistant")
    return Unfit("unknown shape", f"found {', '.join(sorted(map(str, row))) or 'nothing'}; expected {EXPECTED}")


def _system(row: Mapping[str, Any]) -> list[Any]:
    """The row's own system message. Nothing else of a row ever becomes one."""
    return [{"role": "system", "content": row[name]} for name in SYSTEM if row.get(name)]


def _side(value: Any, role: str, extra: Any = None) -> list[Any]:
    """One side of a pair: turns already, or the text of one. `extra` is an instruction's input."""
    if isinstance(value, list):
        return value
    if extra and isinstance(value, str) and isinstance(extra, str):
        value = f"{value}\n\n{extra}"
    return [{"role": role, "content": value}]


def _message(turn: Any, number: int) -> Message | Unfit:
    where = f"turn {number}"
    if not isinstance(turn, Mapping):
        return Unfit("turn is no object", f"{where} is {_kind(turn)}")
    role = turn.get("role", turn.get("from"))
    content = turn.get("content", turn.get("value"))
    if not isinstance(role, str) or role not in ROLES:
        return Unfit("unknown role", f"{where} has role {role!r}; known are {', '.join(ROLES)}")
    if not isinstance(content, str):
        return Unfit("content is no text", f"{where} ({role}) holds {_kind(content)}")
    if not is_text(content):
        return Unfit("broken characters", f"{where} ({role}) holds bytes that are no text")
    if not content.strip():
        return Unfit("empty content", f"{where} ({role}) is empty")
    return Message(ROLES[role], texts.clean(content))  # type: ignore[arg-type]


def _in_order(messages: list[Message]) -> list[Message] | Unfit:
    roles = [message.role for message in messages]
    spoken = roles[1:] if roles[:1] == ["system"] else roles
    if len(spoken) < 2 or spoken[-1] != "assistant":
        return Unfit(
            "no answer",
            f"the turns are {', '.join(roles) or 'none'}; the last must be the assistant's, after a question",
        )
    if spoken != ["user", "assistant"] * (len(spoken) // 2):
        return Unfit("turns out of order", f"the turns are {', '.join(roles)}; user and assistant must alternate")
    return messages


def _kind(value: Any) -> str:
    return "nothing" if value is None else f"a {type(value).__name__}"
