"""Form errors as in OpenAI's API: one sentence, its type, and the field that it is about."""

import json
from collections.abc import Container
from typing import Any

TYPES = {
    400: "invalid_request_error",
    403: "permission_error",
    404: "invalid_request_error",
    405: "invalid_request_error",
    408: "timeout_error",
    413: "invalid_request_error",
    415: "invalid_request_error",
    422: "invalid_request_error",
    429: "rate_limit_error",
    504: "timeout_error",
}
SHOWN = 500
"""Characters of a backend's message that are passed on."""


class ApiError(Exception):
    """A request that is refused or failed: the status, a sentence for the client, and the field of the body that it is about."""

    def __init__(self, status: int, message: str, *, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.status, self.param, self.code = status, param, code

    @property
    def body(self) -> dict[str, Any]:
        """The error as OpenAI's API writes it."""
        kind = TYPES.get(self.status, "server_error")
        return {"error": {"message": str(self), "type": kind, "param": self.param, "code": self.code}}

    @property
    def json(self) -> bytes:
        """The body of a response."""
        return json.dumps(self.body, ensure_ascii=False).encode()


def from_backend(status: int, content: bytes, name: str, fields: Container[str] = ()) -> ApiError:
    """Return a backend's error in OpenAI's form, whatever its own form: FastAPI's `detail`, a plain text, or nothing.

    If the reason begins with one of the request's `fields` and a colon, the error is about this field.
    """
    try:
        answer = json.loads(content)
    except ValueError:
        answer = content.decode(errors="replace")
    if isinstance(answer, dict) and isinstance(answer.get("error"), dict):
        error = answer["error"]
        return ApiError(status, str(error.get("message"))[:SHOWN], param=error.get("param"), code=error.get("code"))
    told = (answer.get("detail") or answer.get("error")) if isinstance(answer, dict) else answer
    sentence = f"{name} refused the request" if status < 500 else f"{name} failed on the request"
    reason = str(told or "it gave no reason")[:SHOWN]
    field = reason.partition(":")[0]
    return ApiError(status, f"{sentence}: {reason}", param=field if field in fields else None)
