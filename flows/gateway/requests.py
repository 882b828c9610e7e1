"""Requests: their JSON, and the fields that the gateway itself relies on. Others are passed on as they are."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, NoReturn

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from flows.gateway.errors import ApiError

Endpoint = Literal["chat/completions", "completions"]
Fields = Mapping[Endpoint, Mapping[str, tuple[Any, ...] | None]]
"""Endpoint → the fields that a backend honours → the values that it honours; None for all values."""
HALF = re.compile("[\ud800-\udfff]")
OWN = ("store",)
"""Fields that the gateway itself honours, and does not pass on."""
WITHOUT_TOOLS: Mapping[str, tuple[Any, ...]] = {"tool_choice": ("auto", "none"), "parallel_tool_calls": (True, False)}
"""Values that have no effect in a chat without tools; clients send them all the same, and they are not passed on."""


class StreamOptions(BaseModel):
    """The options of a stream, as far as the gateway looks at them."""

    model_config = ConfigDict(extra="allow", strict=True)

    include_usage: bool | None = None


class _Fields(BaseModel):
    model_config = ConfigDict(extra="allow", strict=True)

    model: str
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    store: bool | None = None
    max_tokens: int | None = Field(None, ge=1)
    max_completion_tokens: int | None = Field(None, ge=1)
    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, ge=0, le=1)
    frequency_penalty: float | None = Field(None, ge=-2, le=2)
    seed: int | None = Field(None, ge=-(2**63), lt=2**63)
    generation_config: str | None = None


class Function(BaseModel):
    """The function of a tool that is called, with its arguments."""

    model_config = ConfigDict(extra="allow", strict=True)

    name: str
    arguments: str | dict[str, Any]


class ToolCall(BaseModel):
    """A call of a tool in a message."""

    model_config = ConfigDict(extra="allow", strict=True)

    function: Function


class Message(BaseModel):
    """A message, as far as the gateway looks at it."""

    model_config = ConfigDict(extra="allow", strict=True)

    role: str
    content: str | list[dict[str, Any]] | None = None
    tool_calls: list[ToolCall] | None = None


class Chat(_Fields):
    """The body of `/v1/chat/completions`."""

    messages: list[Message] = Field(min_length=1)
    tools: list[dict[str, Any]] | None = None
    chat_template_kwargs: dict[str, Any] | None = None


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
        """The alias or served name that it asks for."""
        return str(self.body["model"])

    @property
    def streams(self) -> bool:
        """True if the request asks for a streamed answer."""
        return bool(self.body.get("stream"))

    @property
    def wants_usage(self) -> bool:
        """True if a streamed answer has to end with the numbers of its tokens."""
        return bool((self.body.get("stream_options") or {}).get("include_usage"))

    @property
    def fields_of_backend(self) -> Mapping[str, Any]:
        """The fields of the body that a backend is given. Those that are null are left out, as some backends would refuse them."""
        without_effect = {} if self.endpoint == "completions" or self.body.get("tools") else WITHOUT_TOOLS
        return {
            field: value
            for field, value in self.body.items()
            if field not in OWN and value is not None and value not in without_effect.get(field, ())
        }

    def addressed_to(self, name: str) -> bytes:
        """Return the body that a backend is given, with the served name as its model. A backend always counts the tokens of a stream."""
        body = {**self.fields_of_backend, "model": name}
        if self.streams:
            body["stream_options"] = {**body.get("stream_options", {}), "include_usage": True}
        return json.dumps(body).encode()


def parse(endpoint: Endpoint, content: bytes) -> Request:
    """Return the request in a body. Raises ApiError, which names the wrong field."""
    try:
        body = json.loads(content, parse_constant=_refuse_constant)
        has_half = HALF.search(json.dumps(body, ensure_ascii=False))
    except (ValueError, RecursionError) as error:
        raise ApiError(400, f"The body is no JSON: {error}.") from None
    if has_half:  # no tokenizer accepts a lone surrogate
        raise ApiError(400, "A text of the body has half of a character (an unpaired UTF-16 surrogate).")
    try:
        (Chat if endpoint == "chat/completions" else Completion).model_validate(body)
    except ValidationError as error:
        problem = error.errors()[0]
        param = ".".join(map(str, problem["loc"]))
        raise ApiError(400, f"{param or 'The body'}: {problem['msg'].rstrip('.')}.", param=param or None) from None
    match body:
        case {"prompt": [str(text)]}:  # OpenAI's clients may send one text as a list, which not every backend reads
            body = {**body, "prompt": text}
    return Request(endpoint, body)


def refuse_unsupported(request: Request, fields: Fields, name: str) -> None:
    """Raise ApiError if the backend of a model would silently ignore a field. `fields` is empty for a backend that never does."""
    if not fields:
        return
    honoured = fields[request.endpoint]
    for field, value in request.fields_of_backend.items():
        values = honoured.get(field, ())
        if value is not None and values is not None and value not in values:
            raise ApiError(400, f"{field}: the backend of {name} does not support it.", param=field, code="unsupported")


def _refuse_constant(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON number")
