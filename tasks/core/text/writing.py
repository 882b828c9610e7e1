"""Generation of new text by a model: its settings and its answers."""

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
"""A host that is named by its address in IPv4."""
NAME = re.compile(r"[A-Za-z_]\w*", re.ASCII)
"""A variable of the environment."""
SECRET = "secret"
"""The type of an error whose message does not repeat the value, which is or holds a secret."""


class Decoding(Config):
    """Settings of the sampling."""

    temperature: float = Field(0.8, gt=0)
    top_p: float = Field(0.95, gt=0, le=1)
    max_new_tokens: int = Field(256, ge=1)
    batch_size: int = Field(16, ge=1)
    """Answers that a model of this machine writes in one batch."""


class Server(Config):
    """A server that speaks OpenAI's API."""

    url: str = Field(pattern=r"^https?://")
    """`http://127.0.0.1:8000/v1`"""
    model: str
    key: str = ""
    """The environment variable that holds its key."""
    concurrency: int = Field(4, ge=1)
    """Requests at once."""
    requests_per_minute: int | None = Field(None, ge=1)
    """At most so many; none sets no limit beside `concurrency`."""
    timeout_s: float = Field(120.0, gt=0)
    """A server that is silent for longer is asked again."""
    prompt_price: float = Field(0.0, ge=0)
    """Of a million tokens that it reads, in any currency: what a run costs is logged."""
    answer_price: float = Field(0.0, ge=0)
    """Of a million tokens that it writes."""

    @field_validator("key")
    @classmethod
    def _is_name(cls, key: str) -> str:
        if key and (not NAME.fullmatch(key) or any(map(_is_drawn, key.split("_")))):
            raise PydanticCustomError(
                SECRET,
                "it is no name of an environment variable, such as OPENAI_API_KEY; put the key into that variable, not here",
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
            parts = urlsplit(url)  # which passes over line breaks and tabs
            host = parts.hostname or ""
            host.encode("idna")  # a label of no or too many signs
            if NUMBERS.fullmatch(host):
                IPv4Address(host)
            is_address = bool(host) and parts.port != 0 and url.isprintable()
        except ValueError:
            is_address = False
        if not is_address:
            raise ValueError(
                "it is no address of a server, such as http://127.0.0.1:8000/v1: see its host and its port"
            )
        return url


class JudgeServer(Server):
    """A server whose model judges answers."""

    max_new_tokens: int = Field(16, ge=1, exclude_if=lambda value: value == 16)
    """Length of a judgement in tokens. A model that reasons before it judges needs some thousand."""


def _is_drawn(word: str) -> bool:
    """Return True if a part of a name looks drawn, as those of keys do: it is long and has digits, or longer and has letters of both cases."""
    return len(word) >= 24 - 8 * any(map(str.isdigit, word)) and (
        word not in (word.lower(), word.upper()) or not word.isalpha()
    )


@dataclass(frozen=True)
class Answer:
    """The answer to one prompt, or the reason for having none."""

    text: str
    refused: str = ""
    """The reason the server gave for not answering; empty where it did."""
    tokens_read: int = 0
    tokens_written: int = 0
    """0 where a server tells none, or where the answer was kept from an earlier run."""
    ended: bool = True
    """False if it was cut off at the largest number of tokens."""
    began: float = field(default=0.0, compare=False)
    seconds: float = field(default=0.0, compare=False)
    """When the call began (Unix time), and how long it took, with the others of its batch; 0 where the answer was kept."""


def call(model: str, prompt: Sequence[Message], answer: Answer) -> Call:
    """Return the call of a model that an answer to a prompt came of."""
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
"""A function of prompts and keys that yields the answers in order, each drawn with its key as the seed."""
