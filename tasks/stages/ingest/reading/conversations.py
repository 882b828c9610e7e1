"""Convert a row in one of the usual shapes of supervised data into a conversation."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

from tasks.core.records import Message, Unfit
from tasks.stages.ingest.reading import cleaning, tool_calls

ROLES = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "function_call": "assistant",
    "tool": "tool",
    "function": "tool",
    "observation": "tool",
}
"""The spellings of roles: OpenAI's, ShareGPT's, Qwen's."""
FOLLOWERS = {
    "system": ("user",),
    "user": ("assistant",),
    "assistant": ("user", "tool"),
    "tool": ("tool", "assistant"),
}
"""The roles that may come after each."""
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
CHOSEN, REJECTED = ("chosen", "chosen_response"), ("rejected", "rejected_response")
"""The columns of the two sides of a preference pair."""
PROMPTS = ("prompt", "question", "instruction", "conversations", "messages", "input")
"""The columns that may hold a preference pair's prompt."""
EXPECTED = (
    "messages · conversations · "
    + " · ".join(f"{prompt} + {response}" for prompt, response in PAIRS)
    + " · prompt + chosen + rejected"
)
UNDECODED = re.compile("[\ufffd\ud800-\udfff]")
"""Lone surrogates, and the mark that a decoder leaves for bytes it cannot read."""


def conversation(row: Mapping[str, Any]) -> list[Message] | Unfit:
    """Return the messages of a row, the assistant's last, or the reason why it has none. Of a preference pair it is the chosen side."""
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


def side_columns(row: Mapping[str, Any]) -> tuple[str, str] | None:
    """Return the columns of a preference pair's chosen and rejected side; None if the row is no pair."""
    chosen, rejected = (next((name for name in names if name in row), None) for names in (CHOSEN, REJECTED))
    return None if chosen is None or rejected is None else (chosen, rejected)


def is_decoded(text: str) -> bool:
    """Return True if the text has no NUL, no lone surrogate, and no mark that a decoder leaves for bytes it cannot read."""
    return "\x00" not in text and (text.isascii() or not UNDECODED.search(text))


def _turns(row: Mapping[str, Any]) -> list[Any] | Unfit:
    """Return the raw turns of whichever shape the row has."""
    if columns := side_columns(row):
        return _chosen_turns(row, row[columns[0]])
    for name in ("messages", "conversations"):
        if row.get(name) is not None:
            turns = row[name]
            return turns if isinstance(turns, list) else Unfit("not a list of turns", f"{name} is {_kind(turns)}")
    for prompt, response in PAIRS:
        if row.get(prompt) is not None and response in row:
            return _system(row) + _side(row[prompt], "user", row.get("input")) + _side(row[response], "assistant")
    return Unfit("unknown shape", f"found {', '.join(sorted(map(str, row))) or 'nothing'}; expected {EXPECTED}")


def _chosen_turns(row: Mapping[str, Any], chosen: Any) -> list[Any] | Unfit:
    """Return the prompt of a preference pair and its chosen side, which may be a text, an answer's turns, or a conversation."""
    chosen = [chosen] if isinstance(chosen, Mapping) else chosen
    first = chosen[0] if isinstance(chosen, list) and chosen else None
    if isinstance(first, Mapping) and ROLES.get(str(first.get("role", first.get("from")))) in ("system", "user"):
        return chosen if ROLES[str(first.get("role", first.get("from")))] == "system" else [*_system(row), *chosen]
    prompt = next((row[name] for name in PROMPTS if row.get(name)), None)
    if prompt is None:
        return Unfit(
            "no prompt", f"a preference pair needs a prompt in one of {', '.join(PROMPTS)}, or whole conversations"
        )
    extra = row.get("input") if prompt is not row.get("input") else None
    return _system(row) + _side(prompt, "user", extra) + _side(chosen, "assistant")


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
    content = _joined(content) if isinstance(content, list) else content
    if not isinstance(role, str) or role not in ROLES:
        return Unfit("unknown role", f"{where} has role {role!r}; known are {', '.join(ROLES)}")
    if ROLES[role] == "assistant" and turn.get("weight") == 0:
        return Unfit("turn with weight 0", f"{where} is not to be trained on, and every answer of a conversation is")
    spoken = tool_calls.read(turn, role, content) if ROLES[role] == "assistant" else tool_calls.Spoken(content, [])
    if isinstance(spoken, Unfit):
        return replace(spoken, detail=f"{where}: {spoken.detail}")
    content = spoken.content or "" if spoken.calls else spoken.content
    if not isinstance(content, str):
        return Unfit("content is no text", f"{where} ({role}) holds {_kind(content)}")
    if not is_decoded(content):
        return Unfit("broken characters", f"{where} ({role}) holds bytes that are no text")
    if not content.strip() and not spoken.calls:
        return Unfit("empty content", f"{where} ({role}) is empty")
    content = cleaning.clean(content)
    if ROLES[role] == "tool":
        return Message("tool", tool_calls.result(content), None, _text(turn, "name"), _text(turn, "tool_call_id"))
    return Message(ROLES[role], content, spoken.calls or None)  # type: ignore[arg-type]


def _joined(parts: Sequence[Any]) -> Any:
    """Return the text of a content that comes in parts; the parts themselves if one is no text (an image, say)."""
    texts = [part.get("text") if isinstance(part, Mapping) and part.get("type") == "text" else None for part in parts]
    return "".join(map(str, texts)) if all(isinstance(text, str) for text in texts) else parts


def _text(turn: Mapping[str, Any], name: str) -> str | None:
    value = turn.get(name)
    return value if isinstance(value, str) and value else None


def _checked_order(messages: list[Message]) -> list[Message] | Unfit:
    """Return the messages if each may follow the one before it and the assistant is last, else the reason against them."""
    roles = [message.role for message in messages]
    spoken = roles[1:] if roles[:1] == ["system"] else roles
    if len(spoken) < 2 or spoken[-1] != "assistant":
        return Unfit(
            "no answer",
            f"the turns are {', '.join(roles) or 'none'}; the last must be the assistant's, after a question",
        )
    out_of_order = spoken[0] != "user" or any(role not in FOLLOWERS[before] for before, role in pairwise(roles))
    if out_of_order:
        return Unfit(
            "turns out of order",
            f"the turns are {', '.join(roles)}; user and assistant must alternate, and a tool comes after the assistant",
        )
    for number, (before, message) in enumerate(pairwise(messages), 2):
        if message.role == "tool" and before.role == "assistant" and not before.tool_calls:
            return Unfit("result without a call", f"turn {number} is a tool's, and turn {number - 1} calls none")
    return messages


def _kind(value: Any) -> str:
    return "nothing" if value is None else f"a {type(value).__name__}"
