"""Answers of servers with OpenAI's chat completions: vLLM, Ollama, llama.cpp, a cloud."""

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

from tasks.core.records import Message
from tasks.core.text.writing import Answer, Decoding, Server
from tasks.io.generators.answers import Answers
from tasks.io.generators.client import Client, Rejected, connect, seed

MIN_REFUSALS = 3
"""The number of refusals, without any answer, from which the server counts as refusing every request."""


@dataclass(frozen=True)
class Endpoint:
    """A model behind a server. Its answers are cached in `cache`, keyed by the request, so that an equal request costs nothing.

    The key holds the server's address, so the server need not run if all answers are cached. For an alias of `ratchet serve` the key also
    holds the model that the alias leads to, because `champion` moves with each promotion.
    """

    server: Server
    cache: Path

    def write(self, prompts: Sequence[Sequence[Message]], keys: Sequence[str], decoding: Decoding) -> Iterator[Answer]:
        """Yield the answer to each prompt, in order. A seed derived from its key is sent along; some servers ignore it.

        Each answer is cached as it arrives. If an error or the caller ends this early, requests in flight are awaited first, so that
        no paid answer is lost. Raises ValueError if the server refuses every request, does not answer after some attempts, or
        answers in another format.
        """
        requests = [self._request(prompt, key, decoding) for prompt, key in zip(prompts, keys, strict=True)]
        answers: dict[str, Answer] = {}
        with (
            connect(self.server) as client,
            closing(client.in_order(partial(self._answer, client, self._led_to(client)), requests)) as arriving,
        ):
            for request, answer in zip(requests, arriving, strict=True):
                answers[json.dumps(request)] = answer
                yield answer
        reasons = [answer.refused for answer in answers.values()]
        if len(reasons) >= MIN_REFUSALS and all(reasons) and not self._has_answered():
            raise ValueError(f"{self.server.url} refuses every request: {reasons[0]}.")

    def _has_answered(self) -> bool:
        """Return True if the cache, which other models may share, holds an answer of this model."""
        return any(
            isinstance(question, list)
            and question[:1] == [self.server.url]
            and [request.get("model") for request in question[1:] if isinstance(request, dict)] == [self.server.model]
            for question in Answers(self.cache).questions()
        )

    def _request(self, prompt: Sequence[Message], key: str, decoding: Decoding) -> dict[str, Any]:
        return {
            "model": self.server.model,
            "messages": [{"role": message.role, "content": message.content} for message in prompt],
            "temperature": decoding.temperature,
            "top_p": decoding.top_p,
            "max_tokens": decoding.max_new_tokens,
            "seed": seed(key),
        }

    def _led_to(self, client: Client) -> list[str]:
        """Return the name of the model that an alias of `ratchet serve` leads to, as a list of one; an empty list in all other cases."""
        match client.find(f"/v1/models/{quote(self.server.model)}"):
            case {"owned_by": "ratchet", "root": str(root)} if root != self.server.model:
                return [root]
        return []

    def _answer(self, client: Client, led_to: Sequence[str], request: dict[str, Any]) -> Answer:
        """Return one answer, from the cache or from the server."""
        answers, question = Answers(self.cache), [self.server.url, request, *led_to]
        kept = answers.get(question)
        if isinstance(kept, list):  # a string, which earlier versions stored, does not say whether it was cut off
            text, ended = kept
            return Answer(text, ended=ended)
        began = time.time()
        try:
            body = client.post("/chat/completions", request)
        except Rejected as rejection:
            return Answer("", str(rejection), began=began, seconds=time.time() - began)
        seconds = time.time() - began
        if reason := _refusal(body):
            return Answer("", reason, began=began, seconds=seconds)
        answer = client.answer(body, _text, request["max_tokens"])
        if led_to:  # the alias may have moved meanwhile
            question[-1] = body.get("model")
        answers.keep(question, [answer.text, answer.ended])
        return replace(answer, began=began, seconds=seconds)


def _refusal(body: Any) -> str:
    """Return the reason why a server withholds its answer to this prompt; empty if it answers."""
    match body:
        case {"choices": []}:
            return "an answer without choices"
        case {"choices": [{"finish_reason": "content_filter"}, *_]}:
            return "its filter of contents withholds the answer"
        case {"choices": [{"message": {"refusal": str(text)}}, *_]} if text:
            return f"refusal, {text[:200]!r}"
    return ""


def _text(choice: Any) -> Any:
    """Return the text of a choice, with its text parts joined; None if it has no text, for example because reasoning used all tokens."""
    content = choice["message"].get("content")
    if isinstance(content, list):
        return "".join(part["text"] for part in content if part["type"] == "text")
    return content
