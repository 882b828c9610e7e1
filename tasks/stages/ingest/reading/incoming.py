"""Read incoming prompts, with or without responses, from tables in the shapes that `ingest` reads."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tasks.core.records import Example, Message, Refusal, Unfit, identify
from tasks.core.text.visible import excerpt
from tasks.io.sources import folders, table
from tasks.io.sources.record import Broken
from tasks.stages.ingest.reading.rows import tool_calls
from tasks.stages.ingest.reading.rows.conversations import EXTRAS, PAIRS, SYSTEM, TURNS, conversation
from tasks.stages.ingest.reading.rows.turns import content_of, merged, role_of

PROMPT_COLUMNS = (*dict.fromkeys(prompt for prompt, _ in PAIRS), "text")
"""The columns that may hold a prompt if a row has no response."""
NONE = "—"
"""The response of a row that has none yet."""


def files(paths: Sequence[Path]) -> list[Path]:
    """Return the tables at these paths, those below a folder in order.

    Raises FileNotFoundError if a path does not exist, and ValueError if a file is not a table.
    """
    tables = []
    for path in paths:
        if not path.exists():
            raise FileNotFoundError(f"{path}: there is no such file or folder.")
        if path.is_file() and folders.role(path) != "table":
            raise ValueError(f"{path}: expected a table, found {table.describe(path)}.")
        tables += [file for file in folders.walk(path) if folders.role(file) == "table"] if path.is_dir() else [path]
    return tables


def read(paths: Sequence[Path]) -> Iterator[Example | Refusal]:
    """Yield every row of these tables as an example, whose response is `NONE` if it has none, or as a refusal."""
    for path in paths:
        for row in table.rows(path):
            if isinstance(row, Broken):
                yield Refusal(path.as_posix(), row.where, row.reason, row.detail, row.record)
                continue
            example = _example(row.values, path.stem, f"{path.as_posix()}: {row.where}")
            if isinstance(example, Unfit):
                beginning = excerpt(str(row.values))
                yield Refusal(path.as_posix(), row.where, example.reason, example.detail, beginning)
            else:
                yield example


def _example(row: Mapping[str, Any], domain: str, where: str) -> Example | Unfit:
    messages = conversation_or_prompt(row)
    if isinstance(messages, Unfit):
        return messages
    tools = tool_calls.schemas(row, messages)
    if isinstance(tools, Unfit):
        if messages[-1].content != NONE:
            return tools
        # The prompt is enough to measure drift, even if its tools are not functions, or the column is prose.
        tools = None
    name = identify(messages, tools=tools)
    return Example(name, messages, "incoming", domain, where, "test", where, "unknown", tools=tools)


def conversation_or_prompt(row: Mapping[str, Any]) -> list[Message] | Unfit:
    """Return the messages of a row. A row without a response, or with an empty one, gets `NONE` as its response.

    In a prompt without a response, consecutive turns of one role are joined: clients send such prompts to servers, and nothing is trained on
    them.
    """
    row = {name: said for name, value in row.items() if (said := _said(value)) is not None}
    messages = conversation(row)
    if not isinstance(messages, Unfit):
        return messages
    for name in TURNS:
        turns = _joined(row.get(name))
        if isinstance(turns, list) and turns and role_of(turns[-1]) != "assistant":
            return conversation({**row, name: [*turns, {"role": "assistant", "content": NONE}]})
    prompt = next((name for name in PROMPT_COLUMNS if row.get(name)), None)
    if prompt is None or messages.reason != "unknown shape":
        return messages
    beside = {name: row[name] for name in (*SYSTEM, *EXTRAS) if name in row and name != prompt}
    return conversation(beside | {"prompt": _joined(row[prompt]), "completion": NONE})


def _joined(value: Any) -> Any:
    """Return turns with consecutive texts of one role joined; any other value unchanged."""
    are_turns = isinstance(value, list) and all(isinstance(turn, Mapping) for turn in value)
    return merged(value, "\n\n") if are_turns else value


def _said(value: Any) -> Any:
    """Return a value of a row, without an empty answer at the end of turns; None if it is blank, which marks a hidden answer."""
    if isinstance(value, list) and value and _is_empty_answer(value[-1]):
        return value[:-1] or None
    return None if _is_blank(value) else value


def _is_empty_answer(turn: Any) -> bool:
    if role_of(turn) != "assistant" or turn.get("tool_calls") or turn.get("function_call"):
        return False
    return _is_blank(content_of(turn))


def _is_blank(value: Any) -> bool:
    return value is None or (isinstance(value, str) and not value.strip())
