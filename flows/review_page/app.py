"""Define the routes of the page, and the guard in front of them: checks of host and token, and headers of every answer."""

import secrets
import traceback
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from flows.execution import ports
from flows.review_page import edits, filters, forms, rendering
from flows.review_page.entries import VERBS, Entry, Turn, Verb, View
from flows.review_page.filters import Filters, History
from flows.review_page.forms import BulkForm, DecisionForm, Refused
from tasks.core.records import Decision, content_id
from tasks.io import review_decisions
from tasks.io.system import progress

STATIC = {
    "htmx.min.js": ("vendor", "text/javascript"),
    "page.js": ("templates", "text/javascript"),
    "page.css": ("templates", "text/css"),
}
"""File → its folder and media type."""
HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "cache-control": "no-store",
}


class Stale(Exception):
    """Raised for a decision on an entry whose decisions have changed since the page was made."""

    def __init__(self, decisions: Sequence[Decision]) -> None:
        what = "What was decided on it is no longer in the file"  # as after `git checkout`
        if decisions:
            what = f"{decisions[-1].author} decided on it meanwhile ({decisions[-1].decision})"
        super().__init__(f"{what}. Nothing was written; look again.")


def application(turn: Turn, author: str, token: str) -> ASGIApp:
    """Return the application, whose paths begin with the token."""
    page = _Page(turn, author)
    app = Starlette(
        routes=[
            Route("/", page.index),
            Route("/edit", page.editor),
            Route("/neighbours", page.neighbours),
            Route("/decide", page.decide, methods=["POST"]),
            Route("/bulk", page.count_bulk),
            Route("/bulk", page.decide_bulk, methods=["POST"]),
            Route("/static/{name}", _static),
        ],
        exception_handlers={
            Refused: _refused,
            HTTPException: _http_error,
            ClientDisconnect: _went_away,
            OSError: _failed,
            ValueError: _failed,
            Exception: _bug,
        },
    )
    return _guarded(app, token)


class _Page:
    """The handlers of requests about a turn."""

    def __init__(self, turn: Turn, author: str) -> None:
        self._turn, self._author = turn, author

    def index(self, request: Request) -> Response:
        chosen = forms.parse(request.url.query, Filters)
        if chosen.view not in self._turn.views:
            chosen = chosen.model_copy(update={"view": self._turn.views[0]})
        entries, history = self._turn.entries(chosen.view), self._turn.history(chosen.view)
        page, choices = filters.page(entries, chosen, history), filters.choices(entries)
        return HTMLResponse(
            rendering.index(
                self._turn, chosen, page, choices, history, author=self._author, file=self._turn.decisions(chosen.view)
            )
        )

    def editor(self, request: Request) -> Response:
        view, entry = self._asked(request)
        _check_verb(view, "edit")
        if edits.calls_a_tool(entry):
            raise Refused(422, edits.CALL)
        history = self._turn.history(view)
        text = _text_of(entry, history)
        if rendering.UNEDITABLE & set(text):
            raise Refused(422, "A browser would change the carriage returns of this text. Edit it by `ratchet review`.")
        return HTMLResponse(rendering.editor(entry, view, text, len(history.get(entry.id, ()))))

    def neighbours(self, request: Request) -> Response:
        _, entry = self._asked(request)
        return HTMLResponse(rendering.neighbours(self._turn.neighbours(entry)))

    async def decide(self, request: Request) -> Response:
        form = await forms.read(request, DecisionForm)
        return await run_in_threadpool(self._decide, form)

    def count_bulk(self, request: Request) -> Response:
        decision = request.query_params.get("decision", "")
        if decision not in ("accept", "reject", "flag", "withdraw"):
            raise Refused(422, f"{decision!r} is not a decision on many entries; use accept, reject, flag or withdraw.")
        chosen = forms.parse(request.url.query, Filters)
        _check_verb(chosen.view, decision)
        history = self._turn.history(chosen.view)
        entries = self._of_bulk(chosen, decision, history)
        return HTMLResponse(rendering.bulk(decision, chosen, len(entries), _digest(entries, history)))

    async def decide_bulk(self, request: Request) -> Response:
        form = await forms.read(request, BulkForm)
        return await run_in_threadpool(self._decide_bulk, form)

    def _decide(self, form: DecisionForm) -> Response:
        _check_verb(form.view, form.decision)
        entry = self._entry(form.view, form.id)
        text = form.text.replace("\r\n", "\n") if form.decision == "edit" else ""
        if form.decision == "edit":
            before = _text_of(entry, self._turn.history(form.view))
            if problem := edits.problem(entry, text, before):
                raise Refused(422, f"{problem.rstrip('.')}. Nothing was decided, and the text is still here.")

        def add(history: History) -> Sequence[Decision]:
            earlier = history.get(entry.id, ())
            if len(earlier) != form.seen:
                raise Stale(earlier)
            return [_decision(entry, form, text)]

        try:
            review_decisions.record(self._turn.decisions(form.view), add)
        except Stale as stale:
            return HTMLResponse(rendering.card(entry, form.view, self._turn.history(form.view), str(stale)), 412)
        return HTMLResponse(rendering.card(entry, form.view, self._turn.history(form.view)))

    def _decide_bulk(self, form: BulkForm) -> Response:
        chosen = forms.parse(form.query, Filters)
        _check_verb(chosen.view, form.decision)

        def add(history: History) -> Sequence[Decision]:
            entries = self._of_bulk(chosen, form.decision, history)
            if not secrets.compare_digest(_digest(entries, history), form.seen):
                raise Refused(
                    412,
                    f"Another person decided meanwhile: {len(entries):,} match now. Nothing was written; count again.",
                )
            return [_decision(entry, form, "") for entry in entries]

        number = len(review_decisions.record(self._turn.decisions(chosen.view), add))
        response = HTMLResponse(rendering.message(f"{number:,} decisions were written."))
        response.headers["HX-Refresh"] = "true"
        return response

    def _of_bulk(self, chosen: Filters, decision: str, history: History) -> list[Entry]:
        """Return the entries that a decision on many entries applies to: open ones, or decided ones for `withdraw`."""
        state = chosen.state
        if decision != "withdraw":
            if not chosen.shows_open:
                raise Refused(422, "Only open entries can be decided on together. Choose open or all as Decision.")
            state = "open"
        elif chosen.shows_open:
            state = "decided"
        return filters.matching(self._turn.entries(chosen.view), chosen.model_copy(update={"state": state}), history)

    def _asked(self, request: Request) -> tuple[View, Entry]:
        view = forms.parse(request.url.query, Filters).view
        return view, self._entry(view, request.query_params.get("id", ""))

    def _entry(self, view: View, identity: str) -> Entry:
        entry = self._turn.entries(view).get(identity) if view in self._turn.views else None
        if entry is None:
            raise Refused(410, "A run has written this turn again, and the entry is gone. Load the page again.")
        return entry


def _text_of(entry: Entry, history: History) -> str:
    """Return the text with which an edit begins: the response, or its present edit."""
    standing = filters.state_of(entry, history)
    return standing.text if standing and standing.decision == "edit" else entry.response


def _check_verb(view: View, verb: Verb | str) -> None:
    """Raise Refused if entries of a view cannot get a decision."""
    if verb not in (*VERBS[view], "withdraw"):
        allowed = " and ".join((*VERBS[view], "withdraw"))
        raise Refused(422, f"{verb!r} is no decision on entries of {view}; {allowed} are.")


def _decision(entry: Entry, form: DecisionForm | BulkForm, text: str) -> Decision:
    time = datetime.now(UTC).isoformat(timespec="seconds")
    return Decision(entry.id, form.decision, form.author, form.reason, text, time)


def _digest(entries: Sequence[Entry], history: Mapping[str, Sequence[Decision]]) -> str:
    return content_id(*(f"{entry.id} {len(history.get(entry.id, ()))}" for entry in entries))


def _guarded(app: ASGIApp, token: str) -> ASGIApp:
    """Return the application behind the checks of host and token. Paths reach it without the token."""

    async def guard(scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = [(name.encode(), value.encode()) for name, value in HEADERS.items()]
                message = {**message, "headers": [*message.get("headers", []), *headers]}
            await send(message)

        first, slash, rest = scope["path"].removeprefix("/").partition("/")
        answer: ASGIApp = app
        if not ports.is_here(Headers(scope=scope).get("host", "")):
            answer = _sentence(403, f"This page accepts only the hosts {' and '.join(sorted(ports.HOSTS))}.")
        elif not secrets.compare_digest(first.encode("utf-8", "replace"), token.encode()):
            answer = _sentence(
                403, "The address lacks the token of this start. The terminal of `ratchet review --web` has it."
            )
        elif not slash:
            answer = RedirectResponse(f"/{token}/")
        await answer({**scope, "path": f"/{rest}", "root_path": ""}, receive, send_with_headers)

    return guard


def _static(request: Request) -> Response:
    name = request.path_params["name"]
    if name not in STATIC:
        raise HTTPException(404)
    folder, media_type = STATIC[name]
    return Response((rendering.FOLDER / folder / name).read_bytes(), media_type=media_type)


def _sentence(status: int, sentence: str) -> Response:
    return HTMLResponse(rendering.error_page(sentence), status)


def _message(request: Request, status: int, sentence: str) -> Response:
    """Return a sentence: alone if a part of the page was requested, otherwise as a page."""
    if "hx-request" in request.headers:
        return HTMLResponse(rendering.message(sentence), status)
    return _sentence(status, sentence)


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, Refused)
    return _message(request, error.status, str(error))


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    sentences = {404: "There is no such page here.", 405: "This address does not take that method."}
    return _message(request, error.status_code, sentences.get(error.status_code, str(error.detail)))


async def _went_away(request: Request, _: Exception) -> Response:
    return _message(request, 400, "The request broke off. Nothing was decided.")


async def _failed(request: Request, error: Exception) -> Response:
    return _message(request, 500, f"{error}. Nothing was decided.".replace("..", "."))


async def _bug(request: Request, error: Exception) -> Response:
    progress.say("".join(traceback.format_exception(error)))
    return _message(request, 500, "The page failed on the request; its terminal shows where.")
