"""Render conversations with the model's chat template: the prompt of an answer, and the answer with its end of turn."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from jinja2 import TemplateError

from tasks.core.records import Message
from tasks.core.text.reasoning import END, START
from tasks.core.weights.control_tokens import end_of_turn, first_control_token

Tokenizer = Any
"""A fast tokenizer of transformers."""
OTHER = "another"


class ChatTemplateError(ValueError):
    """The template refuses a conversation, or leaves a part of it out."""


@dataclass(frozen=True, slots=True)
class WrittenAnswer:
    """An answer of the assistant in the text of the template."""

    prompt: str
    """The conversation up to where the assistant begins."""
    text: str
    """Everything that the assistant writes: the answer, its calls, its end of turn."""
    start: int
    """The offset in `text` where the answer's own characters begin; negative where the prompt already holds the first of them."""

    @property
    def up_to_here(self) -> str:
        """Return the conversation up to the end of this turn."""
        return self.prompt + self.text


def render_prompt(messages: Sequence[Message], tokenizer: Tokenizer, tools: str | None = None) -> str:
    """Return the conversation as the template writes it, up to where the assistant begins. Raises ValueError without a chat template."""
    return _render(messages, tokenizer, tools, is_prompt=True)


def written_answer(messages: Sequence[Message], tokenizer: Tokenizer, tools: str | None = None) -> WrittenAnswer:
    """Return the last message, the assistant's, as the template writes it.

    The turn ends with the first control token after the answer; where the template writes none, with the tokenizer's end token. Some
    templates write past answers differently from what follows the prompt (they leave reasoning out, or trim it). The result is then the
    answer's text and the token that ends turns. Where the prompt opens the reasoning, the answer continues from there; an answer without
    reasoning first closes it.
    Raises ChatTemplateError if the template refuses the conversation or leaves a part of it out.
    """
    last = messages[-1]
    prompt, conversation = render_prompt(messages[:-1], tokenizer, tools), _render(messages, tokenizer, tools)
    _check_complete(conversation, messages, tokenizer, tools)
    written = conversation.removeprefix(prompt)
    content = _beyond(prompt, last.content)
    told = len(last.content) - len(content)
    start = written.find(content)
    if not conversation.startswith(prompt) or start < 0:
        if last.tool_calls:
            raise ChatTemplateError("it writes tool calls of the past otherwise than the assistant is to write them")
        closed = "" if END in content else empty_reasoning(prompt)
        end_token = end_of_turn(tokenizer) or tokenizer.eos_token
        return WrittenAnswer(prompt, closed + content + end_token, len(closed) - told)
    end_of_content = start + len(content)
    if last.tool_calls:
        name = last.tool_calls[-1].name
        if name not in written:
            raise ChatTemplateError(f"it writes tool name {name!r} in other characters")
        end_of_content = max(end_of_content, written.rindex(name))
    if end := first_control_token(written, tokenizer, end_of_content):
        return WrittenAnswer(prompt, written[: end.end()], start - told)
    text = written.rstrip() if last.tool_calls else written[:end_of_content]
    return WrittenAnswer(prompt, text + tokenizer.eos_token, start - told)


def _beyond(prompt: str, answer: str) -> str:
    """Return an answer, without its opening reasoning tag where the prompt already ends with that tag."""
    return answer.removeprefix(START).lstrip("\n") if opens_reasoning(prompt) else answer


def opens_reasoning(prompt: str) -> bool:
    """Return True if a prompt ends with the tag that opens the reasoning."""
    return prompt.rstrip().endswith(START)


def empty_reasoning(prompt: str) -> str:
    """Return the text by which an answer without reasoning closes the reasoning that its prompt opens; empty where it opens none."""
    return f"\n{END}\n\n" if opens_reasoning(prompt) else ""


def _render(messages: Sequence[Message], tokenizer: Tokenizer, tools: str | None, *, is_prompt: bool = False) -> str:
    if tokenizer.chat_template is None:
        raise ValueError(
            f"{tokenizer.name_or_path or 'the model'}: its tokenizer has no chat template, by which conversations are written. Take a base "
            "that has one (most whose names end in `-Instruct`), or put a `chat_template.jinja` into the folder that "
            "`fetch.model: {from: folder, path: …}` names. Text alone (`ingest.corpora`, `pretrain`) needs none."
        )
    turns = [_turn(message) for message in messages]
    further = {"tools": json.loads(tools)} if tools else {}
    try:
        text: str = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=is_prompt, **further)
    except (TemplateError, TypeError) as error:
        raise ChatTemplateError(
            f"it refuses the turns {', '.join(message.role for message in messages)}: {error}"
        ) from error
    return text


def _turn(message: Message) -> dict[str, Any]:
    """Return a message in the form that templates read."""
    turn: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.tool_calls:
        turn["tool_calls"] = [
            {
                "type": "function",
                "function": {"name": call.name, "arguments": json.loads(call.arguments)},
                **({"id": call.id} if call.id else {}),
            }
            for call in message.tool_calls
        ]
    further = {"name": message.name, "tool_call_id": message.tool_call_id}
    return turn | {name: value for name, value in further.items() if value}


def _check_complete(conversation: str, messages: Sequence[Message], tokenizer: Tokenizer, tools: str | None) -> None:
    """Raise ChatTemplateError if the template left out a system message, a call, text beside a call, the result of a call, or the tools.

    A part counts as left out if the text stays the same when another part takes its place.
    """
    if tools and _render(messages, tokenizer, None) == conversation:
        raise ChatTemplateError("it leaves out the schemas of the tools")
    for place, message in enumerate(messages):
        for part, other in _others(message):
            if _render([*messages[:place], other, *messages[place + 1 :]], tokenizer, tools) == conversation:
                raise ChatTemplateError(f"it leaves out {part} of turn {place + 1}, of role {message.role!r}")


def _others(message: Message) -> Iterator[tuple[str, Message]]:
    """Yield each part of a message that a template may leave out, by name, and the message with other contents in that part."""
    if message.role in ("system", "tool") or (message.tool_calls and message.content):
        yield "the text", replace(message, content=f"{message.content} {OTHER}")
    for place, call in enumerate(message.tool_calls or ()):
        for other in (replace(call, name=OTHER), replace(call, arguments=json.dumps({OTHER: OTHER}))):
            calls = [*(message.tool_calls or ())]
            calls[place] = other
            yield f"a tool call ({call.name})", replace(message, tool_calls=calls)
