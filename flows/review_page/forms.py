"""Parse the bodies of requests: forms of a limited size, with their required fields."""

import asyncio
from typing import Annotated, Literal, TypeVar
from urllib.parse import parse_qsl

from pydantic import BaseModel, ConfigDict, StringConstraints, ValidationError
from starlette.requests import Request

from flows.review_page.entries import Verb, View

BODY_BYTES = 2 * 2**20
"""Large enough for the longest text that lineage keeps, with nine bytes for each character."""
EXCESS = 16
"""Multiple of that size that is read and discarded, so that the client receives the answer; beyond it the connection is closed."""
UPLOAD_S = 30.0
Author = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200)]
Reason = Annotated[str, StringConstraints(strip_whitespace=True, max_length=2_000)]
Form = TypeVar("Form", bound=BaseModel)


class Refused(Exception):
    """Raised for a request that is refused: the status, and a sentence."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status


class DecisionForm(BaseModel):
    """A decision on an entry."""

    model_config = ConfigDict(extra="forbid")

    view: View
    id: str
    seen: int
    """The number of decisions on it when the page was made."""
    decision: Verb
    author: Author
    reason: Reason = ""
    text: str = ""


class BulkForm(BaseModel):
    """A decision on all entries that filters match."""

    model_config = ConfigDict(extra="forbid")

    decision: Literal["accept", "reject", "flag", "withdraw"]
    query: str
    """The filters."""
    seen: str
    """The digest of the entries and of their decisions when they were counted."""
    author: Author
    reason: Reason = ""


async def read(request: Request, form: type[Form]) -> Form:
    """Return the form in the body of a request. Raises Refused if it is too large, too slow, or lacks a field."""
    content, size = bytearray(), 0
    try:
        async with asyncio.timeout(UPLOAD_S):
            async for piece in request.stream():
                size += len(piece)
                if size <= BODY_BYTES:
                    content += piece
                elif size > EXCESS * BODY_BYTES:
                    break
    except TimeoutError:
        raise Refused(408, f"The request did not arrive within {UPLOAD_S:g} s. Nothing was decided.") from None
    if size > BODY_BYTES:
        raise Refused(413, f"The text is larger than {BODY_BYTES:,} bytes. Nothing was decided.")
    return parse(content.decode("utf-8", "replace"), form)


def parse(query: str, form: type[Form]) -> Form:
    """Return the fields of a query as a form. Raises Refused, which names the wrong field."""
    try:
        return form.model_validate(dict(parse_qsl(query, keep_blank_values=True, max_num_fields=32)))
    except ValidationError as error:
        problem = error.errors()[0]
        raise Refused(422, f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}.") from None
    except ValueError as error:
        raise Refused(422, f"The form cannot be read: {error}.") from None
