"""Read the tool calls of an assistant's turn, tool results, and tool schemas, in the formats of OpenAI, Anthropic, Bedrock, Gemini, Hermes and Qwen."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, NamedTuple

from tasks.core.records import Message, ToolCall, Unfit

BLOCK = re.compile(r"<tool_call>(.*?)</tool_call>", re.DOTALL)
"""Matches a call inside an assistant's text, in the format of Hermes and Qwen."""
RESULT = re.compile(r"<tool_response>\n?(.*?)\n?</tool_response>", re.DOTALL)
TOOLS = ("tools", "functions", "toolConfig")
"""The columns that hold the schemas of tools; the last one is Bedrock's."""
TYPES = frozenset({"OBJECT", "ARRAY", "STRING", "NUMBER", "INTEGER", "BOOLEAN"})
"""Gemini's names of the types of JSON Schema."""

ARGUMENTS = ("arguments", "parameters", "args", "input")
"""The fields that may hold the arguments of a call; the last two are those of LangChain and Gemini, and of Anthropic and Bedrock."""


class Spoken(NamedTuple):
    """The contents of an assistant's turn."""

    content: Any
    """The text of the turn, without calls."""
    calls: list[ToolCall]


def read(turn: Mapping[str, Any], role: str, content: Any) -> Spoken | Unfit:
    """Return the text and the calls of an assistant's turn.

    Calls are in `tool_calls` (OpenAI; arguments as JSON or as an object), in `function_call` (OpenAI's older format, Qwen-Agent), or in blocks
    inside the text (Hermes, Qwen). In ShareGPT, the whole text of a turn with role `function_call` is the call.
    """
    if role == "function_call":
        raw, content = _parsed(content), ""
        entries = raw if isinstance(raw, list) else [raw]
    elif turn.get("tool_calls"):
        entries = turn["tool_calls"]
    elif turn.get("function_call"):
        entries = [turn["function_call"]]
    elif isinstance(content, str) and (blocks := BLOCK.findall(content)):
        entries, content = [_parsed(block) for block in blocks], BLOCK.sub("", content)
    else:
        return Spoken(content, [])
    if not isinstance(entries, list):
        return Unfit("broken tool call", f"tool_calls is {type(entries).__name__}, not a list")
    calls = []
    for entry in entries:
        call = _call(entry)
        if isinstance(call, Unfit):
            return call
        calls.append(call)
    return Spoken(content, calls)


def result(content: str) -> str:
    """Return the text of a tool's result, without Hermes' tags."""
    results = RESULT.findall(content)
    return "\n".join(results) if results and not RESULT.sub("", content).strip() else content


def as_text(message: Message) -> str:
    """Return a response in the form that checks read: its text, or its tool calls as JSON."""
    calls = message.tool_calls or ()
    return json.dumps([asdict(call) for call in calls], ensure_ascii=False) if calls else message.content


def schemas(row: Mapping[str, Any], messages: Sequence[Message]) -> str | Unfit | None:
    """Return the tools that a row lists, as JSON in OpenAI's form; None if it lists none.

    Returns None too if the system message already contains them, as in Hermes' data.
    """
    value = next((row[name] for name in TOOLS if row.get(name)), None)
    tools = _parsed(value)
    tools = tools.get("tools") if isinstance(tools, Mapping) else tools
    is_written = bool(messages) and messages[0].role == "system" and "<tools>" in messages[0].content
    if value is None or tools == [] or is_written:
        return None
    if not isinstance(tools, list) or not all(isinstance(tool, Mapping) for tool in tools):
        return Unfit("broken tools", "the column of tools holds no list of schemas")
    functions = [function for tool in tools for function in _functions(tool)]
    if not all(isinstance(function, Mapping) and isinstance(function.get("name"), str) for function in functions):
        return Unfit("broken tools", "a schema has no name")
    return _dumped([{"type": "function", "function": _with_parameters(function)} for function in functions])


def _functions(tool: Mapping[str, Any]) -> list[Any]:
    """Return the functions of a tool, which is one of them, or in Gemini's form a list of them."""
    listed = tool.get("functionDeclarations", tool.get("function_declarations"))
    return listed if isinstance(listed, list) else [tool.get("function", tool.get("toolSpec", tool))]


def _with_parameters(function: Mapping[str, Any]) -> dict[str, Any]:
    """Return a schema with OpenAI's name `parameters` in place of Anthropic's `input_schema` and Bedrock's `inputSchema`."""
    schema = {
        "parameters" if name in ("input_schema", "inputSchema") else name: value for name, value in function.items()
    }
    parameters = schema.get("parameters")
    if isinstance(parameters, Mapping) and parameters.keys() == {"json"}:
        parameters = parameters["json"]
    return schema | ({"parameters": _lowered(parameters)} if "parameters" in schema else {})


def _lowered(schema: Any) -> Any:
    """Return a JSON Schema with Gemini's names of types in lower case."""
    if isinstance(schema, list):
        return [_lowered(each) for each in schema]
    if not isinstance(schema, Mapping):
        return schema
    return {
        name: value.lower() if name == "type" and isinstance(value, str) and value in TYPES else _lowered(value)
        for name, value in schema.items()
    }


def _call(entry: Any) -> ToolCall | Unfit:
    """Return the call in an object; its arguments may be JSON or an object."""
    if not isinstance(entry, Mapping):
        return Unfit("broken tool call", "a call is no JSON object")
    function = entry.get("function", entry)
    if not isinstance(function, Mapping) or not isinstance(function.get("name"), str) or not function["name"]:
        return Unfit("broken tool call", "a call names no function")
    arguments = _parsed(next((function[name] for name in ARGUMENTS if function.get(name)), {}))
    if not isinstance(arguments, Mapping):
        return Unfit("broken tool call", f"the arguments of {function['name']} are no JSON object")
    call_id = entry.get("id")
    return ToolCall(function["name"], _dumped(arguments), call_id if isinstance(call_id, str) and call_id else None)


def _parsed(value: Any) -> Any:
    """Return the value of a text that is JSON, None for any other text, and any other value unchanged."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return None


def _dumped(value: Any) -> str:
    """Return a value as JSON without escapes, so that control tokens stay visible. Keys with null, which tables add, are dropped."""
    return json.dumps(_without_nothing(value), ensure_ascii=False)


def _without_nothing(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_nothing(part) for key, part in value.items() if part is not None}
    return [_without_nothing(part) for part in value] if isinstance(value, list) else value
