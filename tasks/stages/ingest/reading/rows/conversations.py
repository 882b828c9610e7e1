"""Convert a row in one of the usual shapes of supervised data into a conversation."""

import math
import re
from collections.abc import Mapping
from dataclasses import replace
from decimal import Decimal
from itertools import pairwise
from typing import Any

from tasks.core.records import Message, Unfit
from tasks.stages.ingest.reading import cleaning
from tasks.stages.ingest.reading.rows import branches, tool_calls
from tasks.stages.ingest.reading.rows.branches import shown_branch
from tasks.stages.ingest.reading.rows.content_parts import expanded
from tasks.stages.ingest.reading.rows.transcripts import transcript
from tasks.stages.ingest.reading.rows.turns import (
    ROLES,
    content_of,
    described,
    is_context,
    role_of,
    spelled_role,
)

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
    ("instruction", "response"),
    ("question", "answer"),
    ("question", "response"),
    ("input", "output"),
)
"""The columns of prompt and response."""
EXTRAS = ("input", "context", "passage")
"""The columns whose texts are added to a prompt: the input of an instruction, the text that a question is about."""
TURNS = ("messages", "conversations", "contents", "chat_messages")
"""The columns of whole conversations."""
SYSTEM = ("system", "system_prompt", "systemInstruction", "system_instruction")
HISTORY = "history"
"""The column of the conversation before a prompt: pairs of question and answer (LLaMA-Factory, ChatGLM), or turns."""
CHOSEN, REJECTED = ("chosen", "chosen_response"), ("rejected", "rejected_response")
"""The columns of the two sides of a preference pair."""
PROMPTS = ("prompt", "question", "instruction", "conversations", "messages", "input")
"""The columns that may hold a preference pair's prompt."""
EXPECTED = (
    f"{' · '.join(TURNS)} · "
    + " · ".join(f"{prompt} + {response}" for prompt, response in PAIRS)
    + " · prompt + chosen + rejected"
)
UNDECODED = re.compile("[\ufffd\ud800-\udfff]")
"""Matches lone surrogates, and the replacement character of bytes that could not be decoded."""


def conversation(row: Mapping[str, Any]) -> list[Message] | Unfit:
    """Return the messages of a row, or the reason why it has none. The last message is the assistant's last answer to train on.

    For a preference pair it is the chosen side.
    """
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
    return str(content_of(turns[-1]))


def context_answers(row: Mapping[str, Any]) -> list[int] | None:
    """Return the indices of the answers that must not be trained on, in a row that is a conversation; None if there are none."""
    turns = _turns(row)
    assert not isinstance(turns, Unfit)
    return [place for place, turn in enumerate(turns) if is_context(turn)] or None


def side_columns(row: Mapping[str, Any]) -> tuple[str, str] | None:
    """Return the columns of a preference pair's chosen and rejected side; None if the row is not a pair."""
    chosen, rejected = (next((name for name in names if name in row), None) for names in (CHOSEN, REJECTED))
    return None if chosen is None or rejected is None else (chosen, rejected)


def response_column(row: Mapping[str, Any]) -> str | None:
    """Return the column of the response in a row of prompt and response; None for any other row."""
    match _shape(row):
        case _, response:
            return response
    return None


def columns_of_shape(row: Mapping[str, Any]) -> set[str]:
    """Return the columns of a row that make its conversation; none if its shape is unknown."""
    columns = _shape(row)
    if not columns:
        return set()
    beside = extras(row, columns[0]) if len(columns) > 1 else []
    beside += [HISTORY] if len(columns) > 1 and _history(row) else []
    return {*columns, *beside, *SYSTEM, *([branches.LAST] if branches.is_tree(row) else [])}


def _shape(row: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the columns that define a row's shape; none if the shape is unknown.

    These are prompt (empty if there is none), chosen and rejected side of a preference pair, the column of turns, or prompt and response.
    """
    if sides := side_columns(row):
        return next((name for name in PROMPTS if row.get(name)), ""), *sides
    if branches.is_tree(row):
        return (branches.MESSAGES,)
    turns = next(((name,) for name in TURNS if row.get(name) is not None), None)
    return turns or next((pair for pair in PAIRS if row.get(pair[0]) is not None and pair[1] in row), ())


def is_decoded(text: str) -> bool:
    """Return True if the text has no NUL, no lone surrogate, and no replacement character of undecodable bytes."""
    return "\x00" not in text and (text.isascii() or not UNDECODED.search(text))


def _turns(row: Mapping[str, Any]) -> list[Any] | Unfit:
    """Return the raw turns of a row, without those after the last answer to train on."""
    read = _all_turns(row)
    if isinstance(read, Unfit):
        return read
    turns = [each for turn in read for each in expanded(turn)]
    if not any(map(is_context, turns)):
        return turns
    answers = [place for place, turn in enumerate(turns) if role_of(turn) == "assistant"]
    trained = [place for place in answers if not is_context(turns[place])]
    if not trained:
        return Unfit("nothing to train on", "every answer has weight 0")
    return turns if trained[-1] == answers[-1] else turns[: trained[-1] + 1]


def _all_turns(row: Mapping[str, Any]) -> list[Any] | Unfit:
    """Return the raw turns of a row of any usual shape."""
    match _shape(row):
        case prompt, chosen, _:
            return _chosen_turns(row, prompt, row[chosen])
        case prompt, response:
            answer = row[response]
            if isinstance(answer, Mapping) or (isinstance(answer, list) and not all(map(_is_turn, answer))):
                return Unfit("unknown shape", f"{response} holds {described(answer)}, and neither a text nor turns")
            return _with_system(row, [*_history(row), *_question(row, prompt)]) + _answer(answer)
        case (branches.MESSAGES,):
            return shown_branch(row)
        case (name,):
            turns = transcript(row[name]) if isinstance(row[name], str) else row[name]
            if not isinstance(turns, list):
                what = (
                    "a text, and neither JSON nor a transcript" if isinstance(row[name], str) else described(row[name])
                )
                return Unfit("not a list of turns", f"{name} is {what}")
            return _with_system(row, turns)
    return Unfit("unknown shape", f"found {', '.join(sorted(map(str, row))) or 'nothing'}; expected {EXPECTED}")


def _chosen_turns(row: Mapping[str, Any], prompt: str, chosen: Any) -> list[Any] | Unfit:
    """Return the turns of a preference pair with its chosen side, which may be a text, an answer's turns, or a conversation."""
    chosen = [chosen] if isinstance(chosen, Mapping) else chosen
    if not prompt and isinstance(chosen, str):
        chosen = transcript(chosen) or chosen
    if isinstance(chosen, list) and chosen and role_of(chosen[0]) in ("system", "user"):
        return _with_system(row, chosen)
    if not prompt:
        return Unfit(
            "no prompt",
            f"a preference pair needs a prompt in one of {', '.join(PROMPTS)}, or whole conversations on both sides",
        )
    return _with_system(row, [*_history(row), *_question(row, prompt)]) + _answer(chosen)


def _history(row: Mapping[str, Any]) -> list[Any]:
    """Return the turns before the prompt of a row; none if the column `history` holds anything else."""
    value = row.get(HISTORY)
    if not isinstance(value, list) or all(map(_is_turn, value)):
        return value if isinstance(value, list) else []
    if not all(
        isinstance(pair, list) and len(pair) == 2 and all(isinstance(text, str) for text in pair) for pair in value
    ):
        return []
    return [
        {"role": role, "content": text}
        for pair in value
        for role, text in zip(("user", "assistant"), pair, strict=True)
    ]


def _system(row: Mapping[str, Any]) -> list[Any]:
    """Return the row's own system message. No other column ever becomes a system message."""
    value = next((row[name] for name in SYSTEM if row.get(name)), None)
    if value is None:
        return []
    return [{**value, "role": "system"} if isinstance(value, Mapping) else {"role": "system", "content": value}]


def _with_system(row: Mapping[str, Any], turns: list[Any]) -> list[Any]:
    """Return turns after the row's own system message. Turns that begin with a system message keep theirs, unless it is empty."""
    if turns and role_of(turns[0]) == "system" and _is_empty(content_of(turns[0])):
        turns = turns[1:]
    return turns if role_of(turns[0] if turns else None) == "system" else [*_system(row), *turns]


def _is_empty(content: Any) -> bool:
    return content is None or (isinstance(content, str) and not content.strip())


def _question(row: Mapping[str, Any], name: str) -> list[Any]:
    """Return the turns of the prompt in a column. If it is a text, the texts in the columns of `EXTRAS` are appended."""
    value = row[name]
    if isinstance(value, list):
        return value
    if isinstance(value, str):
        value = "\n\n".join([value, *(row[extra] for extra in extras(row, name))])
    return [{"role": "user", "content": value}]


def extras(row: Mapping[str, Any], name: str) -> list[str]:
    """Return the columns whose texts are added to the prompt in the column `name`."""
    return [extra for extra in EXTRAS if extra != name and isinstance(row.get(extra), str) and row[extra]]


def _answer(value: Any) -> list[Any]:
    """Return the turns of an answer, which may be turns, a text or a number."""
    if isinstance(value, list):
        return value
    is_number = isinstance(value, int) or (isinstance(value, float | Decimal) and math.isfinite(value))
    return [{"role": "assistant", "content": str(value) if is_number else value}]


def _is_turn(value: Any) -> bool:
    return isinstance(value, Mapping) and spelled_role(value) is not None


def _message(turn: Any, number: int) -> Message | Unfit:
    where = f"turn {number}"
    if not isinstance(turn, Mapping):
        return Unfit("turn is no object", f"{where} is {described(turn)}")
    role = role_of(turn)
    if role is None:
        return Unfit("unknown role", f"{where} has role {spelled_role(turn)!r}; known are {', '.join(ROLES)}")
    content = content_of(turn)
    if role == "assistant" and turn.get("weight") not in (None, 0, 1):
        return Unfit("unknown weight", f"{where} has weight {turn['weight']!r}; an answer trains (1) or is context (0)")
    spoken = (
        tool_calls.read(turn, spelled_role(turn), content) if role == "assistant" else tool_calls.Spoken(content, [])
    )
    if isinstance(spoken, Unfit):
        return replace(spoken, detail=f"{where}: {spoken.detail}")
    content = spoken.content or "" if spoken.calls else spoken.content
    if not isinstance(content, str):
        return Unfit("content is no text", f"{where} ({role}) holds {described(content)}")
    if not is_decoded(content):
        return Unfit("broken characters", f"{where} ({role}) holds bytes that are not text")
    if not content.strip() and not spoken.calls:
        return Unfit("empty content", f"{where} ({role}) is empty")
    content = cleaning.clean(content)
    if role == "tool":
        return Message("tool", tool_calls.result(content), None, _text(turn, "name"), _text(turn, "tool_call_id"))
    return Message(role, content, spoken.calls or None)  # type: ignore[arg-type]


def _text(turn: Mapping[str, Any], name: str) -> str | None:
    value = turn.get(name)
    return value if isinstance(value, str) and value else None


def _checked_order(messages: list[Message]) -> list[Message] | Unfit:
    """Return the messages if each may follow the one before it and the assistant is last, else the reason for refusal."""
    roles = [message.role for message in messages]
    spoken = roles[1:] if roles[:1] == ["system"] else roles
    if len(spoken) < 2 or spoken[-1] != "assistant":
        return Unfit(
            "no answer",
            f"the turns are {', '.join(roles) or 'none'}; the last must be the assistant's, after a question",
        )
    if "system" in roles[1:]:
        return Unfit(
            "turns out of order",
            f"turn {roles.index('system', 1) + 1} is a system message, which only the first turn can be: add its text to the first, or to "
            "the user's turn that it is for",
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
