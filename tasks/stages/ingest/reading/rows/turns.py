"""Read roles and contents of turns in the formats of OpenAI, Anthropic, Gemini, ShareGPT, Qwen and LangChain."""

from collections.abc import Iterable, Mapping
from typing import Any

ROLES = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "prompter": "user",
    "customer": "user",
    "client": "user",
    "visitor": "user",
    "end-user": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "model": "assistant",
    "bot": "assistant",
    "chatbot": "assistant",
    "ai": "assistant",
    "agent": "assistant",
    "operator": "assistant",
    "support": "assistant",
    "function_call": "assistant",
    "tool": "tool",
    "function": "tool",
    "observation": "tool",
}
"""Spellings of roles, in lower case: those of OpenAI, ShareGPT, Qwen, Gemini, Cohere, LangChain, and of helpdesks."""
SPEAKERS = ("role", "from", "sender", "author", "speaker")
"""The fields that may hold the role."""
LANGCHAIN = ("human", "ai", "system", "tool", "function")
"""The types of LangChain's messages, which have no field for the role."""
READ = frozenset({
    *SPEAKERS, "content", "value", "parts", "text", "weight", "train", "loss", "tool_calls", "function_call", "name", "tool_call_id", "type",
})  # fmt: skip
"""The fields of a turn that are read."""
CONTENTS = ("content", "value", "parts", "text")
"""The fields that may hold the content."""
TEXTS = ("text", "input_text", "output_text")
"""The types of parts that are texts; the last two are from OpenAI's Responses API."""


def spelled_role(turn: Mapping[str, Any]) -> Any:
    """Return the role of a turn as written; None if it has none."""
    spelled = next((turn[name] for name in SPEAKERS if turn.get(name) is not None), None)
    return turn["type"] if spelled is None and turn.get("type") in LANGCHAIN else spelled


def unwrapped(turn: Any) -> Any:
    """Return a turn without the wrapping of LangChain, which has its fields in `kwargs` or in `data`; any other turn unchanged."""
    if not isinstance(turn, Mapping):
        return turn
    if turn.get("type") == "constructor" and isinstance(turn.get("kwargs"), Mapping) and turn.get("id"):
        kind = str(turn["id"][-1]).removesuffix("Chunk").removesuffix("Message").lower()
        return {**turn["kwargs"], "type": kind}
    if turn.get("type") in LANGCHAIN and isinstance(turn.get("data"), Mapping):
        return {**turn["data"], "type": turn["type"]}
    return turn


def role_of(turn: Any) -> str | None:
    """Return the role of a turn; None if it has no known role."""
    turn = unwrapped(turn)
    spelled = spelled_role(turn) if isinstance(turn, Mapping) else None
    return ROLES.get(spelled.strip().lower()) if isinstance(spelled, str) else None


def content_of(turn: Mapping[str, Any]) -> Any:
    """Return the content of a turn. Parts are joined to a text, or returned unchanged if one is not text, such as an image."""
    turn = unwrapped(turn)
    content = next((turn[name] for name in CONTENTS if name in turn), None)
    if not isinstance(content, list):
        return content
    texts = [part.get("text", part.get("content")) if _is_text(part) else None for part in content]
    return "".join(map(str, texts)) if all(isinstance(text, str) for text in texts) else content


def is_context(turn: Any) -> bool:
    """Return True for an answer that must not be trained on: `weight: 0` (OpenAI, Mistral), `train: false` (Axolotl) or `loss: false`
    (ms-swift)."""
    if role_of(turn) != "assistant":
        return False
    return turn.get("weight") == 0 or turn.get("train") is False or turn.get("loss") is False


def merged(turns: Iterable[dict[str, Any]], separator: str) -> list[dict[str, Any]]:
    """Return the turns with consecutive texts of one role and weight joined. Tool results, and turns with more than a text, are not joined."""
    made: list[dict[str, Any]] = []
    for turn in turns:
        before = made[-1] if made else {}
        is_plain = before.get("weight") == turn.get("weight") and all(
            each.keys() - {"weight"} == {"role", "content"} and isinstance(each["content"], str)
            for each in (before, turn)
        )
        if is_plain and before["role"] == turn["role"] != "tool":
            made[-1] = {**turn, "content": f"{before['content']}{separator}{turn['content']}".strip()}
        else:
            made.append(turn)
    return made


def described(content: Any) -> str:
    """Return a description of a content that is not a text."""
    if isinstance(content, list):
        kinds = [part.get("type", "unknown") for part in content if isinstance(part, Mapping) and not _is_text(part)]
        if kinds:
            return f"a part of type {kinds[0]!r}"
    return "nothing" if content is None else f"a {type(content).__name__}"


def _is_text(part: Any) -> bool:
    """Return True for a part of text; those of Gemini and Bedrock have no type, and those of OpenTelemetry have their text in `content`."""
    return isinstance(part, Mapping) and part.get("type", "text") in TEXTS
