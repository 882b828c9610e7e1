"""Convert turns whose content is a list of parts to OpenAI's format: tool calls, tool results, reasoning.

The parts are those of Anthropic, Bedrock, Gemini and OpenTelemetry.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

from tasks.stages.ingest.reading.rows.turns import role_of, unwrapped

Part = Mapping[str, Any]
KINDS = frozenset({"tool_use", "tool_result", "thinking", "redacted_thinking"})
"""The types of parts that do not become text, in Anthropic's names."""
ALIASES = {"tool_call": "tool_use", "tool_call_response": "tool_result", "reasoning": "thinking"}
"""OpenTelemetry's names of these types."""
EMPTY = frozenset({"token_budget"})
"""The types of parts that hold nothing that was said."""


def expanded(turn: Any) -> list[Any]:
    """Return the turns that a turn of such parts becomes, in the order of the parts. Tool results become turns of their own.

    Any other turn is unchanged. Reasoning becomes the field `thinking`.
    """
    turn = unwrapped(turn)
    content = turn.get("content", turn.get("parts")) if isinstance(turn, Mapping) else None
    if not isinstance(content, list) or not all(isinstance(part, Mapping) for part in content):
        return [turn]
    parts = [part for part in map(_named, content) if str(part.get("type")) not in EMPTY]
    kinds = {str(part.get("type")) for part in parts}
    if (not kinds & KINDS and len(parts) == len(content)) or not kinds <= KINDS | {"text"}:
        return [turn]
    turn = {name: value for name, value in turn.items() if name != "parts"}
    runs = [(is_result, list(run)) for is_result, run in groupby(parts, key=lambda part: part["type"] == "tool_result")]
    if role_of(turn) != "assistant":
        runs.sort(key=lambda run: not run[0])  # the results come first, since a tool comes after the assistant
    return [each for is_result, run in runs for each in (map(_result, run) if is_result else _spoken(turn, run))]


def _spoken(turn: Part, parts: Sequence[Part]) -> Iterator[dict[str, Any]]:
    """Yield the turn of some parts that are no results; nothing for a user's turn without text."""
    told = {
        "content": _joined(parts, "text"),
        "thinking": _joined(parts, "thinking"),
        "tool_calls": [_call(part) for part in parts if part["type"] == "tool_use"],
    }
    if told["content"] or role_of(turn) == "assistant":
        yield {**turn, **{name: value for name, value in told.items() if value or name == "content"}}


def _named(part: Part) -> Part:
    """Return a part of Bedrock, Gemini or OpenTelemetry as Anthropic writes it; any other part unchanged."""
    if "toolUse" in part:
        return {"type": "tool_use", **_object(part["toolUse"], {"toolUseId": "id"})}
    if "toolResult" in part:
        return {"type": "tool_result", **_object(part["toolResult"], {"toolUseId": "tool_use_id"})}
    if "functionCall" in part:
        return {"type": "tool_use", **_object(part["functionCall"], {"args": "input"})}
    if "functionResponse" in part:
        return {
            "type": "tool_result",
            **_object(part["functionResponse"], {"response": "content", "id": "tool_use_id"}),
        }
    if "reasoningContent" in part:
        text = _object(_object(part["reasoningContent"]).get("reasoningText")).get("text")
        return {"type": "thinking", "thinking": text}
    kind = part.get("type", "text" if isinstance(part.get("text"), str) else None)
    kind = ALIASES.get(kind, kind) if isinstance(kind, str) else kind
    if kind == "text" and part.get("thought") is True:
        return {"type": "thinking", "thinking": part.get("text")}
    names = (
        {"arguments": "input"}
        if kind == "tool_use"
        else {"response": "content", "id": "tool_use_id"}
        if kind == "tool_result"
        else {}
    )
    return {**_object(part, names), "type": kind}


def _object(value: Any, names: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Return an object with some of its fields renamed; an empty one for any other value."""
    return {(names or {}).get(name, name): each for name, each in value.items()} if isinstance(value, Mapping) else {}


def _joined(parts: Sequence[Part], kind: str) -> str:
    """Return the joined texts of the parts of a kind. A part has its text in a field named like its kind, or in `content`."""
    texts = [part.get(kind) or part.get("content") for part in parts if part["type"] == kind]
    return "\n\n".join(str(text) for text in texts if text)


def _call(part: Part) -> dict[str, Any]:
    return {"id": part.get("id"), "function": {"name": part.get("name"), "arguments": part.get("input") or {}}}


def _result(part: Part) -> dict[str, Any]:
    result = {"role": "tool", "content": _told(part.get("content")), "tool_call_id": part.get("tool_use_id")}
    return result | ({"name": part["name"]} if part.get("name") else {})


def _told(content: Any) -> Any:
    """Return the text of a tool's result: the texts of its parts, or its object as JSON. A result with an image stays a list."""
    if isinstance(content, list):
        texts = [each.get("text") if isinstance(each, Mapping) else None for each in content]
        if all(isinstance(text, str) for text in texts):
            return "\n\n".join(map(str, texts))
        objects = [each["json"] for each in content if isinstance(each, Mapping) and each.keys() == {"json"}]
        return _told(objects[0]) if len(objects) == len(content) == 1 else content
    return json.dumps(content, ensure_ascii=False) if isinstance(content, Mapping) else content
