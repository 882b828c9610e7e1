"""Generation of text by a model: settings and answers."""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from urllib.parse import urlsplit

from pydantic import Field, field_validator
from pydantic_core import PydanticCustomError

from tasks.core.config import Config
from tasks.core.records import Message
from tasks.core.text.calls import Call

NUMBERS = re.compile(r"\d+(\.\d+){3}")
"""A host that is given as an IPv4 address."""
NAME = re.compile(r"[A-Za-z_]\w*", re.ASCII)
"""The name of an environment variable."""
SECRET = "secret"
"""The type of an error whose message does not repeat the value, because it is or contains a secret."""


class Decoding(Config):
    """Settings of sampling."""

    temperature: float = Field(0.8, gt=0)
    top_p: float = Field(0.95, gt=0, le=1)
    max_new_tokens: int = Field(256, ge=1)
    batch_size: int = Field(16, ge=1)
    """Number of answers that a model on this machine generates in one batch."""


class Server(Config):
    """A server with OpenAI's API."""

    url: str = Field(pattern=r"^https?://")
    """Address of the API, such as `http://127.0.0.1:8000/v1`."""
    model: str
    key: str = ""
    """The environment variable with its API key."""
    concurrency: int = Field(4, ge=1)
    """Number of concurrent requests."""
    requests_per_minute: int | None = Field(None, ge=1)
    """Largest number of requests per minute; without it, only `concurrency` limits them."""
    timeout_s: float = Field(120.0, gt=0)
    """Seconds without a response after which a request is sent again."""
    prompt_price: float = Field(0.0, ge=0)
    """Price of a million input tokens, in any currency. The cost of a run is logged."""
    answer_price: float = Field(0.0, ge=0)
    """Price of a million output tokens."""

    @field_validator("key")
    @classmethod
    def _is_name(cls, key: str) -> str:
        if key and (not NAME.fullmatch(key) or any(map(_is_drawn, key.split("_")))):
            raise PydanticCustomError(
                SECRET,
                "it is not the name of an environment variable, such as OPENAI_API_KEY; put the key into that variable, not here",
            )
        return key

    @field_validator("url")
    @classmethod
    def _is_address(cls, url: str) -> str:
        if "@" in url.partition("://")[2].partition("/")[0]:
            raise PydanticCustomError(
                SECRET, "it holds a password: leave it out, and name the environment variable of a key in `key`"
            )
        try:
            parts = urlsplit(url)  # which ignores line breaks and tabs
            host = parts.hostname or ""
            host.encode("idna")  # an empty label or one that is too long
            if NUMBERS.fullmatch(host):
                IPv4Address(host)
            is_address = bool(host) and parts.port != 0 and url.isprintable()
        except ValueError:
            is_address = False
        if not is_address:
            raise ValueError(
                "it is not the address of a server, such as http://127.0.0.1:8000/v1: see its host and its port"
            )
        return url


class JudgeServer(Server):
    """A server whose model judges answers."""

    max_new_tokens: int = Field(16, ge=1, exclude_if=lambda value: value == 16)
    """Largest length of a judgement in tokens. A model that reasons before it judges needs a few thousand."""


def _is_drawn(word: str) -> bool:
    """Return True if a part of a name looks random, like that of a key: it is long and has digits, or longer and has letters of both cases."""
    return len(word) >= 24 - 8 * any(map(str.isdigit, word)) and (
        word not in (word.lower(), word.upper()) or not word.isalpha()
    )


@dataclass(frozen=True)
class Answer:
    """The answer to one prompt, or the reason for having none."""

    text: str
    refused: str = ""
    """The reason of the server for not answering; empty if it answered."""
    tokens_read: int = 0
    tokens_written: int = 0
    """0 if the server does not report it, or if the answer was kept from an earlier run."""
    ended: bool = True
    """False if it was cut off at the maximum number of tokens."""
    began: float = field(default=0.0, compare=False)
    seconds: float = field(default=0.0, compare=False)
    """Start of the call (Unix time), and the duration of its batch in seconds; 0 if the answer was kept from an earlier run."""


def call(model: str, prompt: Sequence[Message], answer: Answer) -> Call:
    """Return the record of the call that returned this answer to a prompt."""
    return Call(
        model,
        {"messages": [{"role": message.role, "content": message.content} for message in prompt]},
        {} if answer.refused else {"choices": [{"message": {"role": "assistant", "content": answer.text}}]},
        answer.began,
        answer.seconds,
        answer.tokens_read,
        answer.tokens_written,
        answer.refused,
    )


Write = Callable[[Sequence[Sequence[Message]], Sequence[str]], Iterable[Answer]]
"""A function of prompts and keys that yields the answers in order, each sampled with its key as the seed."""
