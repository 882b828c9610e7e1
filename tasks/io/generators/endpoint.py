"""Client of servers with OpenAI's chat completions API: vLLM, Ollama, llama.cpp, a cloud."""

import hashlib
import json
import os
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from tasks.core.records import Message
from tasks.core.text.writing import Answer, Decoding, Server
from tasks.io.generators.answers import Answers

TRIES = 4
"""Tries of one request, if the server is busy, does not answer, or breaks off."""
BUSY = (408, 409, 429, 500, 502, 503, 504)
MIN_REFUSALS = 3
"""From this number of refusals on, without any answer, the server counts as refusing every request."""
REJECTED = (400, 413, 422)
"""Status codes by which a server rejects one request for its content."""


class IncompleteAnswer(Exception):
    """Raised if an answer did not arrive completely."""


@dataclass(frozen=True)
class Endpoint:
    """A model behind a server. Its answers are cached in `cache` by content, so that an equal request costs nothing."""

    server: Server
    cache: Path

    def write(self, prompts: Sequence[Sequence[Message]], keys: Sequence[str], decoding: Decoding) -> Iterator[Answer]:
        """Yield the answer to each prompt, in order. A seed derived from its key is sent along; some servers ignore it.

        Each answer is cached as it arrives. If an error or the caller ends this early, requests under way are awaited first, so that
        no paid answer is lost. Raises ValueError if the server refuses every request, does not answer after some tries, or answers
        in another format.
        """
        requests = [self._request(prompt, key, decoding) for prompt, key in zip(prompts, keys, strict=True)]
        pace = Pace(self.server.requests_per_minute)
        with (
            httpx.Client(timeout=self.server.timeout_s, headers=self._headers()) as client,
            ThreadPoolExecutor(self.server.concurrency, "generator") as threads,
        ):
            pending: dict[str, Future[Answer]] = {}
            try:
                for request in requests:  # equal ones once
                    if (content := json.dumps(request)) not in pending:
                        pending[content] = threads.submit(self._answer, client, pace, request)
                yield from (pending[json.dumps(request)].result() for request in requests)
            finally:
                threads.shutdown(cancel_futures=True)
        answers = [future.result() for future in pending.values()]
        if (
            len(answers) >= MIN_REFUSALS
            and all(answer.refused for answer in answers)
            and not any(self.cache.glob("*.json"))
        ):
            raise ValueError(f"{self.server.url} refuses every request: {answers[0].refused}.")

    def _request(self, prompt: Sequence[Message], key: str, decoding: Decoding) -> dict[str, Any]:
        return {
            "model": self.server.model,
            "messages": [{"role": message.role, "content": message.content} for message in prompt],
            "temperature": decoding.temperature,
            "top_p": decoding.top_p,
            "max_tokens": decoding.max_new_tokens,
            "seed": int(hashlib.sha256(key.encode()).hexdigest()[:8], 16) // 2,  # within 31 bits
        }

    def _headers(self) -> dict[str, str]:
        if not (name := self.server.key):
            return {}
        if not (secret := os.environ.get(name)):
            raise ValueError(f"{self.server.url} wants a key, and the environment variable {name} is not set.")
        return {"Authorization": f"Bearer {secret}"}

    def _answer(self, client: httpx.Client, pace: "Pace", request: dict[str, Any]) -> Answer:
        """Return one answer, from the cache or from the server."""
        answers, question = Answers(self.cache), [self.server.url, request]
        if (kept := answers.get(question)) is not None:
            return Answer(str(kept))
        answer = self._ask(client, pace, request)
        if not answer.refused:
            answers.keep(question, answer.text)
        return answer

    def _ask(self, client: httpx.Client, pace: "Pace", request: dict[str, Any]) -> Answer:
        """Return the server's answer, with retries if it is busy."""
        problem = ""
        for attempt in range(TRIES):
            wait = 2.0**attempt
            pace.wait()
            try:
                response = client.post(f"{self.server.url.rstrip('/')}/chat/completions", json=request)
                if response.status_code not in BUSY:
                    return self._read(response)
                problem, wait = f"status {response.status_code}", _retry_after(response, wait)
            except (httpx.RequestError, IncompleteAnswer) as error:
                problem = str(error) or type(error).__name__
            if attempt + 1 < TRIES:
                time.sleep(wait)
        raise ValueError(
            f"{self.server.url} does not answer: {problem}, {TRIES} times. What was answered before is kept."
        )

    def _read(self, response: httpx.Response) -> Answer:
        """Parse a response. Raises IncompleteAnswer if it is not JSON, and ValueError if a retry would not help."""
        shown = repr(response.text[:200].strip())
        if response.status_code in REJECTED:
            return Answer("", f"status {response.status_code}, {shown}")
        if response.status_code != 200:
            raise ValueError(f"{self.server.url} refuses: status {response.status_code}, {shown}.")
        try:
            body = response.json()
        except ValueError:
            raise IncompleteAnswer(f"an answer that is no JSON, {shown}") from None
        try:
            text, usage = str(body["choices"][0]["message"]["content"] or ""), body.get("usage") or {}
            return Answer(text, "", *(int(usage.get(name) or 0) for name in ("prompt_tokens", "completion_tokens")))
        except (ValueError, LookupError, TypeError, AttributeError):
            raise ValueError(f"{self.server.url} answers in another shape: {shown}.") from None


class Pace:
    """Rate limiter: admits at most `per_minute` requests, evenly spaced."""

    def __init__(self, per_minute: int | None) -> None:
        self._step, self._next, self._lock = 60 / per_minute if per_minute else 0.0, 0.0, threading.Lock()

    def wait(self) -> None:
        """Sleep until the next request is admitted."""
        with self._lock:
            turn = max(time.monotonic(), self._next)
            self._next = turn + self._step
        if (delay := turn - time.monotonic()) > 0:
            time.sleep(delay)


def _retry_after(response: httpx.Response, default: float) -> float:
    """Return the seconds of a busy server's Retry-After header, a minute at most; else `default`."""
    named = response.headers.get("retry-after", "")
    return min(float(named), 60.0) if named.isdigit() else default
