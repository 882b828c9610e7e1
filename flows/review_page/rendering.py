"""Render the page and its parts as HTML."""

import json
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import Any

import jinja2
from rapidfuzz.distance import Prefix

from flows.project import review
from flows.review_page import filters as listing
from flows.review_page.differences import Piece, compare
from flows.review_page.entries import OF_TURN, VERBS, Entry, Turn, View
from flows.review_page.filters import Filters, History
from tasks.core.records import Example, Message
from tasks.core.text.sensitive import search
from tasks.core.text.visible import visible
from tasks.core.text.wording import spoken

FOLDER = files("flows.review_page")
SHOWN = 10_000
"""Characters of a text that are shown. The editor shows the whole text."""
AROUND = 1_000
"""Characters before the first difference of two long texts that are shown with it."""
UNEDITABLE = frozenset("\r\0")
"""Characters that a browser would change in an edited text."""
VIEWS: Mapping[View, str] = {
    "proposed": "Rewrites",
    "refused": "Refused rewrites",
    "examples": "Training examples",
    "records": "Refused records",
    "items": "Evaluation items",
}
"""The names of the views."""
OF_EXAMPLES = {"accept": "Accept", "reject": "Reject", "flag": "Flag", "edit": "Edit"}
WORDS: Mapping[View, Mapping[str, str]] = {
    **dict.fromkeys(OF_TURN, OF_EXAMPLES),
    "records": {"accept": "Rescue"},
    "items": {"reject": "Leave out"},
}
"""View → its decisions, with the labels of their buttons."""
HTMX = json.dumps(
    {
        "includeIndicatorStyles": False,
        "allowEval": False,
        "allowScriptTags": False,
        "historyEnabled": False,
        "defaultSettleDelay": 0,  # htmx takes over a form at once: until then, a key would submit it as a plain form
        "responseHandling": [
            {"code": "[23]..", "swap": True},
            {"code": "412", "swap": True},
            {"code": "...", "swap": True, "error": True, "target": "#message", "swapOverride": "innerHTML"},
        ],
    }
)
"""The configuration of htmx: it evaluates no code, shows errors in one place, and replaces a stale entry by the present one."""


def index(
    turn: Turn, filters: Filters, page: listing.Page, choices: dict[str, list[str]], history: History, **facts: Any
) -> str:
    """Return the page."""
    cards = [card(entry, filters.view, history) for entry in page.entries]
    options = {name: [("", "any"), *((value, value) for value in values)] for name, values in choices.items()}
    verbs = [(verb, WORDS[filters.view][verb]) for verb in VERBS[filters.view] if verb != "edit"]
    return _render(
        "index.html.j2",
        name=turn.name or "the data",
        views=[(view, VIEWS[view]) for view in turn.views],
        verbs=verbs,
        of_many=verbs if filters.shows_open else [],
        filters=filters,
        page=page,
        options=options,
        cards=cards,
        htmx=HTMX,
        **facts,
    )


def card(entry: Entry, view: View, history: History, note: str = "") -> str:
    """Return an entry with its possible decisions, and a note about the last action."""
    answer = entry.response if entry.lineage and not entry.after else _answer(entry.answered)
    prompts, responses = (
        _compared(_spoken(entry.before.prompt), _prompt(entry)),
        _compared(_answer(entry.before), answer),
    )
    return _render(
        "entry.html.j2",
        entry=entry,
        view=view,
        decision=listing.state_of(entry, history),
        seen=len(history.get(entry.id, ())),
        prompts=prompts,
        responses=responses,
        figures=review.figures(entry.signals) if entry.signals else "",
        note=note,
        words=WORDS[view],
    )


def editor(entry: Entry, view: View, text: str, seen: int) -> str:
    """Return the form in which a response is edited, starting from `text`: the response, or an earlier edit."""
    return _render("editor.html.j2", entry=entry, view=view, text=text, seen=seen)


def neighbours(examples: Sequence[Example]) -> str:
    """Return examples whose prompts are similar to that of another example."""
    return _render("neighbours.html.j2", examples=[(one, _spoken(one.prompt), _answer(one)) for one in examples])


def bulk(decision: str, filters: Filters, number: int, seen: str) -> str:
    """Return the question that confirms a decision on many entries."""
    word = WORDS[filters.view].get(decision, "Withdraw")
    return _render("bulk.html.j2", decision=decision, word=word, query=filters.query(), number=number, seen=seen)


def message(sentence: str) -> str:
    """Return a sentence."""
    return _render("message.html.j2", sentence=sentence)


def error_page(sentence: str) -> str:
    """Return a page with only a sentence."""
    return _render("error.html.j2", sentence=sentence)


def _prompt(entry: Entry) -> str:
    return _spoken(entry.answered.prompt)


def _answer(example: Example) -> str:
    return spoken(example.messages[-1])


def _spoken(messages: Sequence[Message]) -> str:
    return review.conversation(messages)


def _compared(before: str, after: str) -> tuple[list[Piece], list[Piece]]:
    """Return both texts in pieces, without the equal beginning if the first difference would otherwise not be shown."""
    texts = [search.redacted(text, search.SECRETS) for text in (before, after)]
    alike, most = Prefix.similarity(*texts), max(map(len, texts))
    start = alike - AROUND if SHOWN - AROUND < alike < most else 0
    lead = f"{start:,} characters, alike in both …\n" if start else ""
    old, new = (lead + visible(text[start:], SHOWN) for text in texts)
    return compare(old, new)


def _safe(text: str) -> str:
    """Return a text that may be shown: without secrets, and with control characters made visible."""
    return visible(search.redacted(text, search.SECRETS), SHOWN)


def _render(template: str, /, **values: Any) -> str:
    return _templates().get_template(template).render(**values)


@cache
def _templates() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("flows.review_page"), autoescape=True, undefined=jinja2.StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.filters["safe_text"] = _safe
    return environment
