"""Text from any server that speaks OpenAI's chat completions: vLLM, Ollama, llama.cpp, a cloud."""

import hashlib
import json
import os
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from tasks.core.records import Message

TRIES = 4
"""Of one request, where the server is busy or does not answer."""
PATIENCE_S = 300.0
BUSY = (408, 409, 429, 500, 502, 503, 504)


@dataclass(frozen=True)
class Endpoint:
    """A model behind a server. What it answered once is kept in `cache` by content, so that the same request costs nothing."""

    url: str
    """As clients of OpenAI take it: `http://127.0.0.1:8000/v1`."""
    model: str
    cache: Path
    key: str = ""
    """The environment variable that holds the server's key; empty where it wants none."""
    concurrency: int = 4
    """Requests at once."""

    def write(
        self,
        prompts: Sequence[Sequence[Message]],
        keys: Sequence[str],
        *,
        temperature: float,
        top_p: float,
        max_tokens: int,
    ) -> Iterator[str]:
        """The answer to each prompt, in their order. A seed made of its key is sent along; not every server heeds it.

        Raises ValueError where the server refuses, does not answer after some tries, or answers in another shape.
        """
        requests = [
            {
                "model": self.model,
                "messages": [{"role": message.role, "content": message.content} for message in prompt],
                "temperature": temperature,
                "top_p": top_p,
                "max_tokens": max_tokens,
                "seed": int(hashlib.sha256(key.encode()).hexdigest()[:8], 16) // 2,  # within 31 bits
            }
            for prompt, key in zip(prompts, keys, strict=True)
        ]
        with httpx.Client(timeout=PATIENCE_S, headers=self._headers()) as client, self._threads() as threads:
            yield from threads.map(lambda request: self._answer(client, request), requests)

    def _threads(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(self.concurrency, "generator")

    def _headers(self) -> dict[str, str]:
        if not self.key:
            return {}
        if not (secret := os.environ.get(self.key)):
            raise ValueError(f"{self.url} wants a key, and the environment variable {self.key} is not set.")
        return {"Authorization": f"Bearer {secret}"}

    def _answer(self, client: httpx.Client, request: dict[str, Any]) -> str:
        """One answer, from the cache or from the server."""
        content = json.dumps([self.url, request], sort_keys=True, ensure_ascii=False)
        place = self.cache / f"{hashlib.sha256(content.encode()).hexdigest()}.json"
        if not place.is_file():
            answer = self._text(self._ask(client, request))
            place.parent.mkdir(parents=True, exist_ok=True)
            partial = place.with_suffix(".partial")
            partial.write_text(json.dumps({"request": request, "answer": answer}, ensure_ascii=False), encoding="utf-8")
            partial.replace(place)
        answer = json.loads(place.read_text(encoding="utf-8"))["answer"]
        return str(answer)

    def _ask(self, client: httpx.Client, request: dict[str, Any]) -> httpx.Response:
        """The server's response, asked for again where it is busy."""
        problem = ""
        for attempt in range(TRIES):
            try:
                response = client.post(f"{self.url.rstrip('/')}/chat/completions", json=request)
            except httpx.TransportError as error:
                problem, wait = str(error) or type(error).__name__, 2.0**attempt
            else:
                if response.status_code not in BUSY:
                    return response
                problem, wait = f"status {response.status_code}", _asked_to_wait(response, 2.0**attempt)
            if attempt + 1 < TRIES:
                time.sleep(wait)
        raise ValueError(f"{self.url} does not answer: {problem}, {TRIES} times. What was answered before is kept.")

    def _text(self, response: httpx.Response) -> str:
        if response.status_code != 200:
            raise ValueError(f"{self.url} refuses: status {response.status_code}, {response.text[:200].strip()!r}.")
        try:
            return str(response.json()["choices"][0]["message"]["content"] or "")
        except (ValueError, LookupError, TypeError):
            raise ValueError(f"{self.url} answers in another shape: {response.text[:200].strip()!r}.") from None


def _asked_to_wait(response: httpx.Response, otherwise: float) -> float:
    """The seconds that a busy server names, a minute at most."""
    named = response.headers.get("retry-after", "")
    return min(float(named), 60.0) if named.isdigit() else otherwise
