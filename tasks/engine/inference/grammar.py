"""Constrained decoding: after a prompt with tools, a model writes a call that their schemas allow, in the form of its chat template.

    p'(y_t | x, y_<t) ∝ p(y_t | x, y_<t) · [a text of the grammar begins with y_≤t]
The grammar describes the text of one call of any of the tools: the text that the template writes around arguments, and the arguments by
their JSON schema, with the properties in the order of the schema. The optional package llguidance computes which tokens may follow
(https://github.com/guidance-ai/llguidance).
Shapes: A = rows of a batch, V = vocabulary.
"""

import copy
import json
import re
from collections.abc import Collection, Mapping, Sequence
from functools import lru_cache
from importlib import metadata
from typing import Any

import torch
from torch import Tensor

from tasks.core.answers import schemas
from tasks.core.records import Message, ToolCall, Unfit
from tasks.core.weights.control_tokens import control_tokens
from tasks.engine.chat_template import ChatTemplateError, Tokenizer, written_answer

PROBE = {"first": 1, "second": [2, 3]}
"""Example arguments, rendered to find out the form of a template's calls."""
SEPARATORS = ((", ", ": "), (",", ":"))
"""The separators of JSON on one line: between items, and after keys."""
NO_PARAMETERS: dict[str, Any] = {"properties": {}}
SETTING = "evaluate.constrained"


def library() -> Any:
    """Return the library for grammars. Raises ValueError if it is not installed."""
    try:
        import llguidance
    except ModuleNotFoundError:
        raise ValueError(
            f'{SETTING} needs the extra `constrained`: pip install "ratchet-llm[constrained]" -c constraints.txt'
        ) from None
    return llguidance


def version() -> str:
    """Return the version of the library, on which answers depend."""
    library()
    return metadata.version("llguidance")


class Constraint:
    """Restricts responses to calls of each prompt's tools, given as JSON; None leaves the response to a prompt free."""

    def __init__(self, tokenizer: Tokenizer, ends: Collection[int], tools: Sequence[str | None]) -> None:
        """Compile the grammars. Raises ValueError for tools from which no grammar can be made."""
        self.ends = frozenset(ends or [tokenizer.eos_token_id])
        """The tokens that end a call."""
        self._tools, vocabulary = tools, _vocabulary(_written_out(tokenizer), tuple(sorted(self.ends)))
        self._grammars = {each: _compiled(each, tokenizer, vocabulary) for each in dict.fromkeys(tools) if each}
        self._begun: dict[int, tuple[Any, int]] = {}
        """Number of a prompt → the grammar's state, and the tokens of the response that it has read."""

    def mask(self, numbers: Sequence[int], responses: Sequence[Sequence[int]], logits_AV: Tensor) -> Tensor:
        """Return the logits of the next tokens, with -inf for each token with which no allowed call can continue."""
        allowed_AV = torch.ones(logits_AV.shape, dtype=torch.bool)
        for row, (number, response) in enumerate(zip(numbers, responses, strict=True)):
            if tools := self._tools[number]:
                following = self._following(number, tools, response)
                allowed = torch.frombuffer(bytearray(following), dtype=torch.uint8) > 0
                allowed_AV[row, : len(allowed)] = allowed[: allowed_AV.shape[1]]
                allowed_AV[row, len(allowed) :] = False
        return logits_AV.masked_fill(~allowed_AV.to(logits_AV.device), -torch.inf)

    def _following(self, number: int, tools: str, response: Sequence[int]) -> bytes:
        """Return a byte for each token of the tokenizer, 0 where it cannot follow."""
        state, read = self._begun.get(number) or (self._grammars[tools].deep_copy(), 0)
        state.consume_tokens(list(response[read:]))
        self._begun[number] = state, len(response)
        following: bytes = state.compute_logit_bias()
        if state.is_error():
            raise ValueError(f"{SETTING}: a call cannot be continued: {_what_is_wrong(state.get_error())}")
        return following


@lru_cache(maxsize=2)
def _vocabulary(tokenizer: str, ends: tuple[int, ...]) -> Any:
    """Return the library's view of a tokenizer, which takes half a second for 50,000 tokens."""
    return library().LLTokenizer(tokenizer, eos_token=list(ends))


def _written_out(tokenizer: Tokenizer) -> str:
    core = copy.copy(tokenizer.backend_tokenizer)
    core.no_padding()
    core.no_truncation()
    return str(core.to_str())


def _compiled(tools: str, tokenizer: Tokenizer, vocabulary: Any) -> Any:
    """Return the initial state of a call of these tools."""
    matcher = library().LLMatcher
    known = schemas.of_tools(tools)
    if isinstance(known, Unfit):
        raise ValueError(f"{SETTING}: {known.reason}: {known.detail}")
    rules = ["start: " + " | ".join(f"call_{place}" for place in range(len(known)))]
    for place, (name, schema) in enumerate(known.items()):
        before, after, separators = _form(name, tokenizer, tools)
        arguments = f"arguments_{place}: %json {json.dumps(_closed(schema, separators))}"
        if reason := matcher.validate_grammar(f"start: arguments_{place}\n{arguments}", vocabulary):
            raise ValueError(
                f"{SETTING}: the parameters of {name!r} are a schema that constrained decoding cannot keep to: {_what_is_wrong(reason)}. Leave "
                f"that out of the schema, or {SETTING} out."
            )
        rules += [f"call_{place}: {before} arguments_{place} {after}", arguments]
    state = matcher(vocabulary, "\n".join(rules))
    if state.is_error():
        raise ValueError(f"{SETTING}: {_what_is_wrong(state.get_error())}")
    return state


def _closed(schema: Mapping[str, Any], separators: tuple[str, str]) -> dict[str, Any]:
    """Return the schema of a tool's arguments as `schemas.broken_call` reads it: an object, which has no other properties if it lists some."""
    schema = schema or NO_PARAMETERS
    others = (
        {} if "properties" not in schema or any(key in schema for key in schemas.OPEN) else {schemas.OPEN[0]: False}
    )
    between, after_key = separators
    form = {"whitespace_flexible": False, "item_separator": between, "key_separator": after_key}
    return {**schema, "type": "object", **others, "x-guidance": form}


def _form(name: str, tokenizer: Tokenizer, tools: str) -> tuple[str, str, tuple[str, str]]:
    """Return the texts before and after a call's arguments, as terms of the grammar, and the separators of the arguments' JSON.

    Raises ValueError if the template writes no calls, or writes arguments in another form than JSON on one line.
    """
    asked = [Message("user", "?"), Message("assistant", "", [ToolCall(name, json.dumps(PROBE))])]
    try:
        text = written_answer(asked, tokenizer, tools).text
    except ChatTemplateError as reason:
        raise ValueError(f"{SETTING}: the model's chat template writes no calls of tools: {reason}") from None
    for separators in SEPARATORS:
        before, arguments, after = text.rpartition(json.dumps(PROBE, separators=separators))
        if arguments:
            return _terms(before, tokenizer), _terms(after, tokenizer, is_last=True), separators
    raise ValueError(
        f"{SETTING}: the model's chat template writes {text!r} for a call with arguments {json.dumps(PROBE)}, and constrained decoding takes "
        "arguments as JSON on one line."
    )


def _terms(text: str, tokenizer: Tokenizer, *, is_last: bool = False) -> str:
    """Return a text as terms of the grammar, with control tokens by their ids. With `is_last`, a control token at its end, which ends the
    turn, is left out."""
    controls = {*control_tokens(tokenizer), tokenizer.eos_token}
    cut = re.compile("(" + "|".join(map(re.escape, sorted(controls, key=len, reverse=True))) + ")")
    parts = [part for part in cut.split(text) if part]
    if is_last and parts and parts[-1] in controls:
        parts.pop()
    return " ".join(
        f"<[{tokenizer.convert_tokens_to_ids(part)}]>" if part in controls else json.dumps(part) for part in parts
    )


def _what_is_wrong(reason: str) -> str:
    """Return the library's error message, without the position in a grammar that the reader does not know."""
    said, *_ = re.split(r"\n +1 \| ", reason.split("failed to compile JSON schema: ")[-1])
    return " ".join(said.split())
