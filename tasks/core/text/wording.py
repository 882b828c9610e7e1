"""Prompts that ask for a function or show code, with the same wording in training and evaluation; turns and data as parts of a prompt."""

import re
from typing import NamedTuple

from tasks.core.records import Message, content_id

ASK = "Write the Python function `{name}`. It must do what its docstring says; leave the docstring out.\n\n{stub}"
ASK_TESTS = "Write tests for the Python function `{name}`: statements with `assert`, and nothing else. It is already defined:\n\n{code}"
GIVEN = "\n\nThese names are already defined:\n\n{context}"
REQUEST = re.compile(
    r"Write the Python function `(\w+)`\..*?\n\n```python\n(.*?)\n```(?:\n\nThese names .*?\n\n```python\n(.*)\n```)?",
    re.DOTALL,
)


class Request(NamedTuple):
    """The arguments of `request`."""

    name: str
    stub: str
    context: str


def request(name: str, stub: str, context: str) -> str:
    """Return the prompt that asks for the function behind `stub` (signature and docstring), given `context`."""
    ask = ASK.format(name=name, stub=block(stub))
    return ask + GIVEN.format(context=block(context)) if context else ask


def request_tests(name: str, code: str, context: str) -> str:
    """Return the prompt that asks for tests of a function, given its dependencies as `context`."""
    ask = ASK_TESTS.format(name=name, code=block(code))
    return ask + GIVEN.format(context=block(context)) if context else ask


def requested(prompt: str) -> Request | None:
    """Return the arguments from which `request` made this prompt; None if it did not make it."""
    if not (match := REQUEST.fullmatch(prompt)):
        return None
    parts = Request(*(part or "" for part in match.groups()))
    return parts if request(*parts) == prompt else None


def block(code: str) -> str:
    """Return code as a fenced block."""
    return f"```python\n{code}\n```"


def quoted(text: str, indent: str = "") -> str:
    """Return a docstring literal with the content `text`."""
    mark = "r" if "\\" in text else ""
    if '"""' in text or text.endswith(("\\", '"')):
        mark, text = "", text.replace("\\", "\\\\").replace('"', '\\"')
    first, *others = ["", *text.split("\n")] if text.startswith(">>>") else text.split("\n")
    lines = [first, *(indent + line if line.strip() else "" for line in others)]
    return f'{mark}"""' + "\n".join([*lines, indent] if others else lines) + '"""'


def spoken(message: Message) -> str:
    """Return a turn as one text: its content, and one line for each tool call."""
    calls = [f"{call.name}({call.arguments})" for call in message.tool_calls or ()]
    return "\n".join([message.content, *calls] if message.content else calls)


def field(name: str, text: str) -> str:
    """Return data between two tags that do not occur in it, so that no text in the data can close the field."""
    mark = content_id(text)[:8]
    while mark in text:
        mark = content_id(mark)[:8]
    return f"<{name} {mark}>\n{text}\n</{name} {mark}>"
