"""Texts of an example: its prompt as one text, its messages in normalised form, and the example with another response."""

from collections.abc import Sequence
from dataclasses import replace

from tasks.core.records import Example, Message, identify
from tasks.core.text.contamination import prompt_of
from tasks.core.text.wording import spoken


def is_code(example: Example) -> bool:
    """Return True if the example's response is a program."""
    return example.task == "function" or (example.tests is not None and example.tests.run_programs)


def as_text(prompt: Sequence[Message]) -> str:
    """Return a conversation as one text; a single message without its role."""
    return prompt[0].content if len(prompt) == 1 else conversation(prompt)


def conversation(messages: Sequence[Message]) -> str:
    """Return messages as one text, each after its role."""
    return "\n\n".join(f"[{message.role}]\n{spoken(message)}" for message in messages)


def prompt_key(example: Example) -> str:
    """Return all messages before the response as one text with white space collapsed. Equal keys mean the same question."""
    return " ".join(prompt_of(example).split())


def normalized(example: Example) -> str:
    """Return all messages as one text with white space collapsed, except within lines of code. Duplicates have equal texts."""
    *prompt, response = example.messages
    texts = [(message.role, message.content, "```" in message.content) for message in prompt]
    texts.append((response.role, response.content, "```" in response.content or is_code(example)))
    return "\n".join(f"{role} {_lines(text) if has_code else ' '.join(text.split())}" for role, text, has_code in texts)


def _lines(text: str) -> str:
    """Return the lines that are not empty, with their indentation, which distinguishes programs."""
    return "\n".join(line.rstrip() for line in text.splitlines() if line.strip())


def with_response(example: Example, response: str) -> Example:
    """Return the example with another response."""
    new = example.with_response(response)
    identity = identify(new.messages, new.tests, tools=new.tools, rejected=new.rejected, desirable=new.desirable)
    return replace(new, id=identity)
