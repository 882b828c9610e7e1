"""Client of servers with OpenAI's API, with retries, a rate limit, and concurrent requests whose answers come in order."""

import hashlib
import json
import os
import re
import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar

import httpx

from tasks.core.text.writing import Answer, Server
from tasks.io.system import progress

TRIES = 4
"""Attempts at one request if the server is busy, does not answer, or sends an incomplete answer."""
BUSY = (408, 409, 429)
"""Status codes below 500 after which a retry may succeed."""
UNABLE = (501, 505)
"""Status codes from 500 on after which a retry cannot succeed."""
REJECTED = (400, 413, 422)
"""Status codes with which a server rejects one request because of its content."""
REMEDIES = {
    401: " Name the environment variable of its key in `key`.",
    403: " Name the environment variable of its key in `key`.",
    404: " Its API is below `/v1`: see that `url` ends so, and that `model` is one of its models.",
}
HALF = re.compile("[\ud800-\udfff]")
"""An unpaired surrogate, which a server that cuts texts in UTF-16 may leave. It cannot be encoded as UTF-8, so not be written to a file."""
SECONDS = re.compile(r"[0-9]+(\.[0-9]+)?")
USAGE = ("prompt_tokens", "completion_tokens")
CUT_OFF = "length"
"""The `finish_reason` of an answer that reached the requested number of tokens."""
T = TypeVar("T")


class Rejected(Exception):
    """Raised if a server rejects one request because of its content; it may answer others."""


class _Incomplete(Exception):
    """Raised if an answer did not arrive completely."""


class _Unexplained(_Incomplete):
    """Raised if the `finish_reason` of an answer is null: the answer may be incomplete."""

    def __init__(self, body: Any) -> None:
        super().__init__("an answer that broke off for the reason None")
        self.body = body


@dataclass
class _Habit:
    """The knowledge of a client about the `finish_reason` in a server's answers."""

    tells: bool = False
    """True as soon as the server gave a `finish_reason`."""
    is_silent: bool = False
    """True if all attempts at a request got null from a server that never gave a `finish_reason`. Its null then has no meaning."""


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


@dataclass(frozen=True)
class Client:
    """Connections to one server; `connect` opens and closes them. Threads may share it."""

    server: Server
    _http: httpx.Client
    _pace: Pace
    _habit: _Habit = field(default_factory=_Habit)

    def post(self, path: str, request: Any) -> Any:
        """Return the answer to a request, as JSON; `path` is relative to the server's `url`.

        Raises Rejected if the server rejects its content, and ValueError if it refuses, or does not answer after some tries.
        """
        return self._ask("POST", f"{self._url}{path}", request)

    def get(self, path: str) -> Any:
        """Return the JSON at a path. Raises the same errors as `post`."""
        return self._ask("GET", f"{self._url}{path}")

    def find(self, path: str) -> Any | None:
        """Return the JSON at a path outside the API (not below `/v1`), or None if the server has no JSON there."""
        try:
            response = self._http.get(f"{self._url.removesuffix('/v1')}{path}")
            return response.json() if response.status_code == 200 else None
        except (httpx.RequestError, ValueError):
            return None

    def in_order(self, ask: Callable[[dict[str, Any]], T], requests: Sequence[dict[str, Any]]) -> Generator[T]:
        """Yield what `ask` returns for each request, in their order; equal requests are asked once.

        At most `concurrency` requests are in flight. If an error or the caller ends this early, they are awaited first, so that `ask` can
        keep each answer that was paid for.
        """
        contents = [json.dumps(request) for request in requests]
        with ThreadPoolExecutor(self.server.concurrency, "generator") as threads:
            pending: dict[str, Future[T]] = {}
            try:
                for content, request in zip(contents, requests, strict=True):
                    if content not in pending:
                        pending[content] = threads.submit(ask, request)
                yield from (pending[content].result() for content in contents)
            finally:
                threads.shutdown(cancel_futures=True)

    def answer(self, body: Any, text_of: Callable[[Any], Any], most: int) -> Answer:
        """Return the answer in a response body.

        `text_of` returns the text of a choice; `most` is the requested number of tokens. Raises ValueError if the body has another shape.
        """
        try:
            choice, usage = body["choices"][0], body.get("usage") or {}
            if not isinstance(text := text_of(choice) or "", str):
                raise self.misshapen(body)
            read, written = (int(usage.get(name) or 0) for name in USAGE)
            reason = choice.get("finish_reason")
            ended = reason != CUT_OFF and (reason is not None or written < most)
            return Answer(
                HALF.sub("\N{REPLACEMENT CHARACTER}", text), tokens_read=read, tokens_written=written, ended=ended
            )
        except (ValueError, LookupError, TypeError, AttributeError):
            raise self.misshapen(body) from None

    def misshapen(self, body: Any) -> ValueError:
        """Return the error for an answer that does not have the shape of OpenAI's API."""
        return ValueError(f"{self.server.url} answers in another shape: {self._shown(json.dumps(body))}.")

    def _shown(self, text: str) -> str:
        """Return the beginning of a server's answer, without the key. Some servers repeat the key in their errors, which are stored."""
        secret = self._http.headers.get("authorization", "").removeprefix("Bearer ")
        return repr((text.replace(secret, "***") if secret else text)[:200].strip())

    @property
    def _url(self) -> str:
        return self.server.url.rstrip("/")

    def _ask(self, method: str, url: str, request: Any = None) -> Any:
        """Return the body of an answer. Retry if the server is busy."""
        problem = shown = ""
        unexplained: list[Any] = []
        for attempt in range(TRIES):
            wait = 2.0**attempt
            self._pace.wait()
            try:
                response = self._http.request(method, url, json=request)
                if not _is_busy(response.status_code):
                    return self._read(response)
                problem, wait = f"status {response.status_code}", _retry_after(response, wait)
                shown = f" The last answer was {self._shown(response.text)}."
            except (httpx.RequestError, _Incomplete) as error:
                problem, shown = str(error) or type(error).__name__, ""
                unexplained += [error.body] if isinstance(error, _Unexplained) else []
            if attempt + 1 < TRIES:
                time.sleep(wait)
        if len(unexplained) == TRIES and not self._habit.tells:
            if not self._habit.is_silent:
                progress.say(
                    f"{self.server.url} never says why an answer ended: those that broke off cannot be told from whole ones."
                )
            self._habit.is_silent = True
            return unexplained[-1]
        raise ValueError(
            f"{self.server.url} does not answer: {problem}, {TRIES} times. What was answered before is kept.{shown} "
            "Start the server, or set another `url`, a longer `timeout_s` or a lower `concurrency`."
        )

    def _read(self, response: httpx.Response) -> Any:
        """Parse a response.

        Raises _Incomplete if it is not JSON or is incomplete, and Rejected or ValueError if a retry would not help.
        """
        status, shown = response.status_code, self._shown(response.text)
        if status in REJECTED:
            raise Rejected(f"status {status}, {shown}")
        if status != 200:
            remedy = REMEDIES.get(status, "")
            raise ValueError(f"{self.server.url} refuses: status {status}, {shown}.{remedy}")
        try:
            body = response.json()
        except ValueError:
            raise _Incomplete(f"an answer that is not JSON, {shown}") from None
        match body:
            case {"choices": [{"finish_reason": ("error" | "abort") as reason}, *_]}:
                raise _Incomplete(f"an answer that broke off for the reason {reason!r}")
            case {"choices": [{"finish_reason": None}, *_]} if not self._habit.is_silent:
                raise _Unexplained(body)
            case {"choices": [{"finish_reason": str()}, *_]}:
                self._habit.tells, self._habit.is_silent = True, False
        return body


def _is_busy(status: int) -> bool:
    return status in BUSY or (status >= 500 and status not in UNABLE)


def seed(key: str) -> int:
    """Return the seed for a key, within 31 bits."""
    return int(hashlib.sha256(key.encode()).hexdigest()[:8], 16) // 2


@contextmanager
def connect(server: Server) -> Iterator[Client]:
    """Open connections to a server. Raises ValueError if the environment lacks its key, or if the key cannot be sent in a header."""
    with httpx.Client(timeout=server.timeout_s, headers=_headers(server)) as http:
        yield Client(server, http, Pace(server.requests_per_minute))


def _headers(server: Server) -> dict[str, str]:
    if not server.key:
        return {}
    if not (secret := os.environ.get(server.key, "").strip()):
        raise ValueError(f"{server.url} wants a key, and the environment variable {server.key} is not set.")
    if not (secret.isascii() and secret.isprintable()):  # httpx would show the key in its error
        raise ValueError(
            f"The environment variable {server.key} holds no key that can be sent: other signs than those of ASCII, "
            "or a line break, are in it."
        )
    return {"Authorization": f"Bearer {secret}"}


def _retry_after(response: httpx.Response, default: float) -> float:
    """Return the seconds to wait according to the Retry-After header, at most 60; `default` if it names no time in the future."""
    named = response.headers.get("retry-after", "")
    try:
        seconds = float(named) if SECONDS.fullmatch(named) else _timestamp(named) - time.time()
    except ValueError:
        return default
    return min(seconds, 60.0) if seconds > 0 else default


def _timestamp(date: str) -> float:
    """Return the POSIX timestamp of an HTTP date.

    A date without a time zone is in UTC: one in the format of C's `asctime`, or one with `-0000`, which Python's `formatdate` writes.
    """
    named = parsedate_to_datetime(date)
    return (named if named.tzinfo else named.replace(tzinfo=UTC)).timestamp()
