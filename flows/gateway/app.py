"""Define the routes of the gateway: read a request, relay it to a worker, and turn every failure into an answer."""

import asyncio
import json
import time
import traceback
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any

import httpx
from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.requests import Request as HttpRequest
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from flows.execution import ports
from flows.gateway import errors, event_stream, requests
from flows.gateway.errors import ApiError
from flows.gateway.fleet import Fleet
from flows.gateway.metrics import UNKNOWN, Metrics
from flows.gateway.prompt_log import PromptLog
from flows.gateway.requests import Endpoint, Request
from flows.gateway.worker import Worker
from tasks.core.operation import ServeConfig
from tasks.core.text.calls import Call
from tasks.io.runs.tracking import Traces
from tasks.io.system import progress

JSON = "application/json"
CLIENT_GONE = 499
"""The status that is counted if the client closed the connection before its answer was complete."""
EXCESS = 64
"""Multiple of the allowed body size that is read and discarded, so that the client receives the answer; beyond it the connection is
closed."""
LAST_WORD_S = 1.0


def application(
    fleet: Fleet, config: ServeConfig, metrics: Metrics, prompts: PromptLog | None, traces: Traces | None = None
) -> ASGIApp:
    """Return the application."""
    endpoints: tuple[Endpoint, ...] = ("chat/completions", "completions")
    routes = [
        Route(f"/v1/{endpoint}", _Generate(endpoint, fleet, config, metrics, prompts, traces), methods=["POST"])
        for endpoint in endpoints
    ]

    async def models(_: HttpRequest) -> Response:
        return _json({"object": "list", "data": _cards(fleet)})

    async def model(request: HttpRequest) -> Response:
        name = request.path_params["name"]
        fleet.alias_of(name)
        return _json(next(card for card in _cards(fleet) if card["id"] == name))

    async def health(_: HttpRequest) -> Response:
        return _json({"status": "ok"}) if fleet.is_healthy else _json({"status": "a worker is being started"}, 503)

    async def measured(_: HttpRequest) -> Response:
        return Response(metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    routes += [
        Route("/v1/models", models),
        Route("/v1/models/{name:path}", model),
        Route("/health", health),
        Route("/metrics", measured),
    ]
    app = Starlette(
        routes=routes, exception_handlers={HTTPException: _http_error, ApiError: _api_error, Exception: _bug}
    )

    async def local(scope: Scope, receive: Receive, send: Send) -> None:
        refusal = ports.refusal(Headers(scope=scope)) if scope["type"] == "http" else None
        await (_respond(ApiError(403, refusal)) if refusal else app)(scope, receive, send)

    return local


def _cards(fleet: Fleet) -> list[dict[str, Any]]:
    """Return the cards of all aliases, and of the models that they lead to."""
    cards = {}
    for alias, model in fleet.served.items():
        for name in (alias, model.name):
            cards[name] = {"id": name, "object": "model", "created": 0, "owned_by": "ratchet", "root": model.name}
    return list(cards.values())


class _Generate:
    """An endpoint that generates text."""

    def __init__(
        self,
        endpoint: Endpoint,
        fleet: Fleet,
        config: ServeConfig,
        metrics: Metrics,
        prompts: PromptLog | None,
        traces: Traces | None,
    ) -> None:
        self._endpoint, self._fleet, self._config = endpoint, fleet, config
        self._metrics, self._prompts, self._traces = metrics, prompts, traces

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        start, began = time.monotonic(), time.time()
        request: Request | None = None
        reply = _Reply(send, is_kept=self._traces is not None)
        try:
            request = requests.parse(self._endpoint, await self._body(HttpRequest(scope, receive)))
            async with asyncio.timeout(self._config.timeout_s):
                await _while_connected(receive, self._relay(request, reply))
        except ClientDisconnect:
            reply.status, reply.error = CLIENT_GONE, "The client closed before its answer was complete."
        except ApiError as error:
            await reply.fail(error)
        except TimeoutError:
            limit = f"{self._config.timeout_s:g} s"
            await reply.fail(ApiError(504, f"The answer was not complete within {limit}.", code="timeout"))
        finally:
            seconds = time.monotonic() - start
            self._metrics.request(reply.model, self._endpoint, reply.status, seconds)
            if request and self._traces:
                _trace(self._traces, request, reply, began, seconds)

    async def _body(self, request: HttpRequest) -> bytes:
        """Return the body of a request. Raises ApiError if it is too large, too slow or not declared as JSON.

        A browser sends other content types for any page, without a CORS preflight request.
        """
        limit = self._config.body_bytes
        content, size = bytearray(), 0
        try:
            async with asyncio.timeout(self._config.upload_s):
                async for piece in request.stream():
                    size += len(piece)
                    if size <= limit:
                        content += piece
                    elif size > EXCESS * limit:
                        break
        except TimeoutError:
            raise ApiError(
                408, f"The request did not arrive within {self._config.upload_s:g} s.", code="upload_timeout"
            ) from None
        if size > limit:
            raise ApiError(413, f"The body is larger than {limit:,} bytes.", code="body_too_large")
        kind = request.headers.get("content-type", "")
        if kind.partition(";")[0].strip().lower() != JSON:
            raise ApiError(415, f"The content type is {kind!r}. Send the header `content-type: {JSON}`.")
        return bytes(content)

    async def _relay(self, request: Request, reply: "_Reply") -> None:
        """Relay a request to a worker. If the connection breaks before the answer begins, try once more on the next worker."""
        alias = self._fleet.alias_of(request.model)
        name = self._fleet.served[alias].name
        requests.refuse_unsupported(request, self._fleet.fields(alias), name)
        for is_last in (False, True):
            async with self._fleet.turn(request.model) as (model, worker):
                reply.model = model.name
                try:
                    await self._ask(request, worker, model.name, reply)
                    break
                except httpx.TransportError:
                    has_ended = await worker.has_ended()
                    if is_last or reply.has_begun:
                        what = "ended" if has_ended else "broke the connection"
                        raise ApiError(502, f"{model.name} {what} before its answer was complete.") from None
        self._keep(request)

    async def _ask(self, request: Request, worker: Worker, name: str, reply: "_Reply") -> None:
        path = f"/v1/{request.endpoint}"
        headers = {"content-type": JSON}
        async with worker.client.stream("POST", path, content=request.addressed_to(name), headers=headers) as answer:
            if answer.status_code != httpx.codes.OK:
                raise errors.from_backend(answer.status_code, await answer.aread(), name, request.body)
            if request.streams:
                await reply.stream(answer, with_usage=request.wants_usage)
            else:
                content = await answer.aread()
                reply.answer = event_stream.parsed(content)
                reply.usage = event_stream.usage_of(reply.answer)
                await reply.whole(content)
            self._metrics.tokens(name, reply.usage)

    def _keep(self, request: Request) -> None:
        if self._prompts is None:
            return
        try:
            self._prompts.append(request)
        except OSError as error:  # a failure of the log must not lose the answer
            self._metrics.prompt_lost()
            progress.say(f"A prompt could not be written: {error}")


def _trace(traces: Traces, request: Request, reply: "_Reply", began: float, seconds: float) -> None:
    """Record a request that was given to a worker, unless it says `"store": false`."""
    if reply.model == UNKNOWN or request.body.get("store") is False:
        return
    read, written = (int(reply.usage.get(f"{kind}_tokens") or 0) for kind in ("prompt", "completion"))
    error = "" if reply.status == httpx.codes.OK else reply.error or f"status {reply.status}"
    traces.record(Call(reply.model, request.body, reply.answer, began, seconds, read, written, error))


class _Reply:
    """The answer to a client, and what of it was sent."""

    def __init__(self, send: Send, *, is_kept: bool) -> None:
        """`is_kept`: also assemble the chunks of a streamed answer, for the trace."""
        self._send, self._is_kept = send, is_kept
        self.model, self.status, self.error = UNKNOWN, 500, ""
        self.answer: Mapping[str, Any] = {}
        self.usage: Mapping[str, Any] = {}
        self.has_begun = self._streams = False

    async def whole(self, content: bytes, status: int = 200) -> None:
        """Send a JSON answer."""
        await self._begin(status, JSON.encode(), content)
        await self._body(content, more=False)

    async def stream(self, answer: httpx.Response, *, with_usage: bool) -> None:
        """Send an answer chunk by chunk, with the end that OpenAI's streams have. Raises ApiError if the backend fails during it.

        `with_usage`: also send the event with the numbers of tokens.
        """
        whole = event_stream.Answer() if self._is_kept else None
        events = event_stream.EventStream(whole, with_usage=with_usage)
        self._streams = True
        await self._begin(200, answer.headers.get("content-type", "text/event-stream").encode())
        try:
            async for piece in answer.aiter_raw():
                await self._body(events.feed(piece), more=True)
                if events.error:
                    raise errors.from_backend(500, events.error, self.model)
            await self._body(events.rest + (b"" if events.is_done else event_stream.END), more=False)
        finally:
            self.usage, self.answer = events.usage, whole.whole if whole else {}

    async def fail(self, error: ApiError) -> None:
        """Send an error: as the answer, or as an event of a stream that has begun."""
        self.status, self.error = error.status, str(error)
        if not self.has_begun:
            await self.whole(error.json, error.status)
        elif self._streams:
            with suppress(TimeoutError):  # the client does not read
                async with asyncio.timeout(LAST_WORD_S):
                    await self._body(event_stream.DATA + error.json + b"\n\n", more=False)

    async def _begin(self, status: int, kind: bytes, content: bytes | None = None) -> None:
        self.has_begun, self.status = True, status
        headers = [(b"content-type", kind), (b"x-ratchet-model", self.model.encode())]
        headers += [(b"content-length", str(len(content)).encode())] if content is not None else []
        headers += [(b"retry-after", b"1")] if status == httpx.codes.TOO_MANY_REQUESTS else []
        # Otherwise the server waits for the rest of the body for as long as the client keeps the connection open.
        headers += [(b"connection", b"close")] if status == httpx.codes.REQUEST_TIMEOUT else []
        await self._send({"type": "http.response.start", "status": status, "headers": headers})

    async def _body(self, piece: bytes, *, more: bool) -> None:
        await self._send({"type": "http.response.body", "body": piece, "more_body": more})


async def _while_connected(receive: Callable[[], Awaitable[Message]], work: Awaitable[None]) -> None:
    """Run the work while the client is connected. If it disconnects, cancels the work and raises ClientDisconnect."""

    async def closed() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    working, closing = asyncio.ensure_future(work), asyncio.ensure_future(closed())
    try:
        await asyncio.wait({working, closing}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientDisconnect
        await working
    finally:
        for task in (working, closing):
            task.cancel()
        await asyncio.gather(working, closing, return_exceptions=True)


async def _http_error(_: HttpRequest, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    sentences = {404: "There is no such path here. See /v1/models.", 405: "This path does not take that method."}
    return _respond(ApiError(error.status_code, sentences.get(error.status_code, str(error.detail))))


async def _api_error(_: HttpRequest, error: Exception) -> Response:
    assert isinstance(error, ApiError)
    return _respond(error)


async def _bug(_: HttpRequest, error: Exception) -> Response:
    progress.say("".join(traceback.format_exception(error)))
    return _respond(ApiError(500, "The gateway failed on the request; its terminal shows where."))


def _respond(error: ApiError) -> Response:
    return Response(error.json, error.status, media_type=JSON)


def _json(value: object, status: int = 200) -> Response:
    return Response(json.dumps(value, ensure_ascii=False), status, media_type=JSON)
