"""Encode prompts: as they are served, and for scoring a question. The question's tokens then have a loss, and earlier turns are context."""

from collections.abc import Sequence
from dataclasses import replace

from tasks.core.records import Example, Message
from tasks.core.sequences import Encoded
from tasks.core.text.reasoning import START
from tasks.engine import chat_template
from tasks.engine.chat_template import Tokenizer, render_prompt
from tasks.engine.encode import is_plain

MARK = "\ue000"
"""A private-use character that templates do not change. Appended to a question, it shows where the template writes the question."""


def prompt_text(prompt: Sequence[Message], tokenizer: Tokenizer, tools: str | None = None) -> str:
    """Return the prompt in the model's chat template, or as plain text if the model has none."""
    if tokenizer.chat_template is None:
        return "\n\n".join(message.content for message in prompt)
    return render_prompt(prompt, tokenizer, tools)


def ids_of(
    prompts: Sequence[Sequence[Message]], tokenizer: Tokenizer, tools: Sequence[str | None] = ()
) -> list[list[int]]:
    """Return the tokens of prompts, each with the schemas of its tools."""
    return [
        prompt_ids(prompt, tokenizer, each)
        for prompt, each in zip(prompts, tools or [None] * len(prompts), strict=True)
    ]


def prompt_ids(prompt: Sequence[Message], tokenizer: Tokenizer, tools: str | None = None) -> list[int]:
    """Return the tokens of a prompt in the model's chat template, or of its plain text if the model has none."""
    special = tokenizer.chat_template is None
    return tokenizer(prompt_text(prompt, tokenizer, tools), add_special_tokens=special)["input_ids"]


def opens_reasoning(ids: Sequence[int], tokenizer: Tokenizer) -> bool:
    """Return True if a prompt, in tokens, ends with the tag that opens the reasoning."""
    return chat_template.opens_reasoning(tokenizer.decode(ids[-2 * len(START) :]))  # a token has at least one character


def question(row: Example, tokenizer: Tokenizer) -> Encoded | None:
    """Return the conversation up to where the assistant begins, as one sequence in which the last message is trained.

    None if the conversation contains the text of a control token, if the template changes the message's characters, or if fewer than two
    of its tokens could be scored.
    """
    if not is_plain(row.prompt, tokenizer):
        return None
    *earlier, last = row.prompt
    text = last.content.strip()
    longer = replace(last, content=last.content.rstrip() + MARK)
    rendered, other = (render_prompt([*earlier, one], tokenizer, row.tools) for one in (last, longer))
    end = other.rfind(MARK)
    start = end - len(text)
    if start < 0 or rendered[start:end] != text:
        return None
    encoding = tokenizer(rendered, add_special_tokens=False, return_offsets_mapping=True)
    weights = [float(start < right and left < end) for left, right in encoding["offset_mapping"]]
    sequence = Encoded(row.id, encoding["input_ids"], weights, len(text.encode()), row.task)
    return sequence if sequence.num_trained > 1 else None
