"""Convert a row in one of the usual shapes of supervised data into a conversation."""

from collections.abc import Mapping
from typing import Any

from tasks.core.records import Message, Unfit
from tasks.stages.ingest.reading import cleaning

ROLES = {"system": "system", "user": "user", "assistant": "assistant", "human": "user", "gpt": "assistant"}
PAIRS = (
    ("prompt", "completion"),
    ("prompt", "response"),
    ("prompt", "correct"),
    ("instruction", "output"),
    ("question", "answer"),
    ("question", "response"),
)
"""The columns of prompt and response."""
SYSTEM = ("system", "system_prompt")
EXPECTED = "messages · conversations · " + " · ".join(f"{prompt} + {response}" for prompt, response in PAIRS)


def conversation(row: Mapping[str, Any]) -> list[Message] | Unfit:
    """Return the messages of a row, the assistant's last, or the reason why it has none."""
    turns = _turns(row)
    if isinstance(turns, Unfit):
        return turns
    messages = []
    for number, turn in enumerate(turns, 1):
        message = _message(turn, number)
        if isinstance(message, Unfit):
            return message
        messages.append(message)
    return _checked_order(messages)


def raw_response(row: Mapping[str, Any]) -> str:
    """Return the last message of a row that is a conversation, before cleaning."""
    turns = _turns(row)
    assert not isinstance(turns, Unfit)
    return str(turns[-1].get("content", turns[-1].get("value")))


def is_decoded(text: str) -> bool:
    """Return True if the text has no lone surrogate and no mark that a decoder leaves for bytes it cannot read."""
    return "\ufffd" not in text and not any("\ud800" <= letter <= "\udfff" for letter in text)


def _turns(row: Mapping[str, Any]) -> list[Any] | Unfit:
    """Return the raw turns of whichever shape the row has."""
    for name in ("messages", "conversations"):
        if row.get(name) is not None:
            turns = row[name]
            return turns if isinstance(turns, list) else Unfit("not a list of turns", f"{name} is {_kind(turns)}")
    for prompt, response in PAIRS:
        if row.get(prompt) is not None and response in row:
            return _system(row) + _side(row[prompt], "user", row.get("input")) + _side(row[response], "assistant")
    return Unfit("unknown shape", f"found {', '.join(sorted(map(str, row))) or 'nothing'}; expected {EXPECTED}")


def _system(row: Mapping[str, Any]) -> list[Any]:
    """Return the row's own system message. No other column ever becomes one."""
    return [{"role": "system", "content": row[name]} for name in SYSTEM if row.get(name)]


def _side(value: Any, role: str, extra: Any = None) -> list[Any]:
    """Return one side of a pair as turns; it may be turns already, or a text. `extra` is an instruction's input."""
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
    if not is_decoded(content):
        return Unfit("broken characters", f"{where} ({role}) holds bytes that are no text")
    if not content.strip():
        return Unfit("empty content", f"{where} ({role}) is empty")
    return Message(ROLES[role], cleaning.clean(content))  # type: ignore[arg-type]


def _checked_order(messages: list[Message]) -> list[Message] | Unfit:
    """Return the messages if user and assistant alternate and the assistant is last, else the reason against them."""
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
