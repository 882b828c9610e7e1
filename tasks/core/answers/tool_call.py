"""Check `tool_call`: the answer calls the tools of the reference with the same arguments.

A call is `<tool_call>{"name": …, "arguments": {…}}</tool_call>`, the form of many chat templates, or a JSON object. Several objects may be
in a list or follow each other. The form of OpenAI, `{"function": {"name": …, "arguments": "…"}}`, is read too.
"""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Literal

from tasks.core.answers.base import AnswerCheck, Grade, Row, binary
from tasks.core.answers.json import agreement, parse, parse_all, written
from tasks.core.records import Unfit
from tasks.core.text.reasoning import answer_of

TAG = re.compile(r"<tool_call>(.*?)(?:</tool_call>|\Z)", re.DOTALL)
CALL_KEYS = {"arguments", "parameters", "function"}
"""Keys of calls. An object after the first is a call only if it has one of them, because other objects have names too."""
NONE = "no tool call"
NAME, VALID, RESULT = ("tool_call name accuracy", "tool_call schema validity", "tool_call result accuracy")
"""The measures beside the accuracy: the right tools with any arguments; calls that fit the schemas of their tools; calls that return the same as
the right calls when they run."""


class ToolCall(AnswerCheck):
    """The answer makes the calls of the reference, in any order: equal names and equal arguments."""

    beside: ClassVar[tuple[str, ...]] = (NAME, VALID, RESULT)
    kind: Literal["tool_call"] = "tool_call"
    compare: Literal["name", "arguments"] = "arguments"
    """`name` compares only the names."""

    def expect(self, row: Row) -> list[dict[str, Any]] | Unfit:
        reference = self.reference_of(row)
        if isinstance(reference, Unfit):
            return reference
        text = reference if isinstance(reference, str) else json.dumps(reference)
        return list(calls(text)) or Unfit(NONE, f"{text[:60]!r}")

    def grade(self, answer: str, expected: Any) -> Grade:
        made = list(calls(answer))
        shown = self.shown(made) if made else ""
        if sorted(call["name"] for call in made) != sorted(call["name"] for call in expected):
            return binary(False, shown, "wrong tool" if made else NONE)
        return binary(self.compare == "name" or _same(made, expected), shown, "wrong arguments")

    def shown(self, expected: Any) -> str:
        return written(expected)


def calls(text: str) -> Iterator[dict[str, Any]]:
    """Yield the calls in a text after its reasoning, as `{"name": …, "arguments": {…}}`. Other objects are left out."""
    text = answer_of(text)
    for part in TAG.findall(text) or [text]:
        for number, value in enumerate(parse_all(part)):
            for call in value if isinstance(value, list) else [value]:
                read = _call(call)
                if read is not None and (number == 0 or not CALL_KEYS.isdisjoint(call)):
                    yield read


def _call(value: Any) -> dict[str, Any] | None:
    if not isinstance(value, Mapping):
        return None
    value = value["function"] if isinstance(value.get("function"), Mapping) else value
    name, arguments = value.get("name"), value.get("arguments", value.get("parameters", {}))
    if arguments is None or arguments == "":  # some servers write these for a tool without arguments
        arguments = {}
    if isinstance(arguments, str):
        arguments = parse(arguments)
    if not isinstance(name, str) or not isinstance(arguments, Mapping):
        return None
    return {"name": name, "arguments": dict(arguments)}


def _same(made: list[dict[str, Any]], expected: list[dict[str, Any]]) -> bool:
    """Return True if the calls can be paired so that all arguments are equal."""
    remaining = list(expected)
    for call in made:
        twin = next(
            (other for other in remaining if call["name"] == other["name"] and agreement(call, other) == 1), None
        )
        if twin is None:
            return False
        remaining.remove(twin)
    return not remaining
