"""Requests: their JSON, and the fields that the gateway itself relies on. Others are passed on as they are."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, NoReturn

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from flows.gateway.errors import ApiError

Endpoint = Literal["chat/completions", "completions"]


class _Fields(BaseModel):
    model_config = ConfigDict(extra="allow", strict=True)

    model: str
    stream: bool | None = None
    store: bool | None = None
    max_tokens: int | None = Field(None, ge=1)
    max_completion_tokens: int | None = Field(None, ge=1)
    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, ge=0, le=1)
    seed: int | None = None


class Message(BaseModel):
    """A message, as far as the gateway looks at it."""

    model_config = ConfigDict(extra="allow", strict=True)

    role: str
    content: str | list[dict[str, Any]] | None = None
    tool_calls: list[dict[str, Any]] | None = None


class Chat(_Fields):
    """The body of `/v1/chat/completions`."""

    messages: list[Message] = Field(min_length=1)
    tools: list[dict[str, Any]] | None = None


class Completion(_Fields):
    """The body of `/v1/completions`."""

    prompt: str | list[Any]


@dataclass(frozen=True)
class Request:
    """A request that is well formed."""

    endpoint: Endpoint
    body: Mapping[str, Any]

    @property
    def model(self) -> str:
        """The alias or name that it asks for."""
        return str(self.body["model"])

    @property
    def streams(self) -> bool:
        """True if the answer is asked for piece by piece."""
        return bool(self.body.get("stream"))

    def addressed_to(self, name: str) -> bytes:
        """Return the body with the served model's own name."""
        return json.dumps({**self.body, "model": name}).encode()


def parse(endpoint: Endpoint, content: bytes) -> Request:
    """Return the request in a body. Raises ApiError that names the field which is wrong."""
    try:
        body = json.loads(content, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise ApiError(400, f"The body is no JSON: {error}.") from None
    try:
        (Chat if endpoint == "chat/completions" else Completion).model_validate(body)
    except ValidationError as error:
        problem = error.errors()[0]
        param = ".".join(map(str, problem["loc"]))
        raise ApiError(400, f"{param or 'The body'}: {problem['msg'].rstrip('.')}.", param=param or None) from None
    return Request(endpoint, body)


def refuse_unsupported(request: Request, neutral: Mapping[str, tuple[Any, ...]], name: str) -> None:
    """Raise ApiError if the backend would silently ignore a field. `neutral` maps such fields to their values that ask for nothing."""
    for field, values in neutral.items():
        if field in request.body and request.body[field] not in values:
            raise ApiError(400, f"{field}: the backend of {name} does not support it.", param=field, code="unsupported")


def _refuse_constant(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON number")
