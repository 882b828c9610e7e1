"""Convert turns whose content is a list of parts, in Anthropic's format, to OpenAI's format: tool calls, tool results, reasoning."""

from collections.abc import Mapping, Sequence
from typing import Any

from tasks.stages.ingest.reading.rows.turns import role_of, unwrapped

KINDS = frozenset({"tool_use", "tool_result", "thinking", "redacted_thinking"})
"""The kinds of parts that do not become text."""


def expanded(turn: Any) -> list[Any]:
    """Return the turns that a turn of such parts becomes. Tool results become turns of their own. Any other turn is unchanged.

    Reasoning becomes the field `thinking`.
    """
    turn = unwrapped(turn)
    parts = turn.get("content") if isinstance(turn, Mapping) else None
    if not isinstance(parts, list) or not all(isinstance(part, Mapping) for part in parts):
        return [turn]
    kinds = {str(part.get("type")) for part in parts}
    if not kinds & KINDS or not kinds <= KINDS | {"text"}:
        return [turn]
    if role_of(turn) == "assistant":
        calls = [_call(part) for part in parts if part["type"] == "tool_use"]
        spoken = {
            **turn,
            "content": _joined(parts, "text"),
            "thinking": _joined(parts, "thinking"),
            "tool_calls": calls,
        }
        return [{name: value for name, value in spoken.items() if value or name == "content"}]
    results = [_result(part) for part in parts if part["type"] == "tool_result"]
    text = _joined(parts, "text")
    return [*results, {**turn, "content": text}] if text else results


def _joined(parts: Sequence[Mapping[str, Any]], kind: str) -> str:
    """Return the joined texts of the parts of a kind. A part has its text in a field named like its kind."""
    return "\n\n".join(str(part[kind]) for part in parts if part.get("type") == kind and part.get(kind))


def _call(part: Mapping[str, Any]) -> dict[str, Any]:
    return {"id": part.get("id"), "function": {"name": part.get("name"), "arguments": part.get("input") or {}}}


def _result(part: Mapping[str, Any]) -> dict[str, Any]:
    content = part.get("content")
    if isinstance(content, list) and all(isinstance(each, Mapping) and each.get("type") == "text" for each in content):
        content = _joined(content, "text")
    return {"role": "tool", "content": content, "tool_call_id": part.get("tool_use_id")}
