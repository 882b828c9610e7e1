"""Report, redact or refuse records with secrets and personal data."""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, Literal, NamedTuple, TypeVar

import polars as pl

from tasks.core.records import Document, Example, Message, SensitiveText, content_id, identify
from tasks.core.text.sensitive import search
from tasks.core.text.sensitive.rules import Kind, Rule
from tasks.core.text.sensitive.search import Span
from tasks.core.text.visible import EXCERPT
from tasks.stages.ingest.config import Action
from tasks.stages.ingest.quarantine import Reasons, Sourced

R = TypeVar("R", Example, Document)
DONE: Mapping[Action, Literal["reported", "redacted", "refused"]] = {
    "report": "reported",
    "redact": "redacted",
    "refuse": "refused",
}
REASONS: Mapping[Kind, str] = {"secret": "secret", "personal": "personal data"}
UP_TO_LAST_WORD = r"(?s)\A(.*[ \n])"
NOT_REDACTED = "cannot be redacted"
"""The reason of refusal for a program that passed its tests with the text that would be redacted."""
EQUAL_SIDES = "equal sides"


class Part(NamedTuple):
    """A text of a record."""

    name: str
    """The role of a turn, `call of TOOL`, `tools`, `rejected`, `tests` or `text`."""
    text: str


class Match(NamedTuple):
    """A place of a record that a rule matches."""

    part: str
    span: Span


@dataclass(frozen=True)
class Screening(Generic[R]):
    """Records at their positions, redacted as the actions say; the reasons to refuse some; and every place that a rule matched."""

    items: list[Sourced[R]]
    refused: Reasons
    places: list[SensitiveText]


def screen_examples(
    items: Sequence[Sourced[Example]], actions: Mapping[Kind, Action], rescued: Collection[str] = ()
) -> Screening[Example]:
    """Screen examples. Those whose ids are `rescued` are never refused; a match that would refuse one is reported."""
    return _screen(items, example_parts, redact_example, actions, rescued)


def screen_documents(
    items: Sequence[Sourced[Document]], actions: Mapping[Kind, Action], rescued: Collection[str] = ()
) -> Screening[Document]:
    """Screen documents in the same way as examples."""
    return _screen(items, lambda document: [Part("text", document.text)], redact_document, actions, rescued)


def rule_names(texts: Sequence[str]) -> Iterator[str]:
    """Yield the name of the rule of each secret and each piece of personal data in these texts."""
    for position, rules in search.suspects(texts).items():
        yield from (match.span.rule.name for match in _search([Part("text", texts[position])], rules))


def count(places: pl.LazyFrame) -> dict[str, dict[str, dict[str, Any]]]:
    """Return, for each source and rule, the numbers of records and of places, and the action. `places` is a table of SensitiveText."""
    numbers = places.group_by("source", "rule", "action").agg(pl.col("where").n_unique().alias("records"), pl.len())
    counted: defaultdict[str, dict[str, dict[str, Any]]] = defaultdict(dict)
    for source, rule, action, records, number in numbers.sort("source", "rule", "action").collect().iter_rows():
        row = counted[source].setdefault(rule, {"records": 0, "places": 0})
        row["records"] += records
        row["places"] += number
        row[action] = number
    return dict(counted)


def in_words(places: pl.LazyFrame) -> Iterator[str]:
    """Yield a line for each kind of sensitive text that was found: the numbers by rule and action, without the texts."""
    numbers = places.group_by("kind", "action", "rule").len().sort("kind", "action", "rule").collect()
    for kind, title in (("secret", "secrets"), ("personal", "personal data")):
        rows = numbers.filter(pl.col("kind") == kind).iter_rows()
        if shown := ", ".join(f"{number} {rule} {action}" for _, action, rule, number in rows):
            yield f"{title}: {shown} (ingest.{'secrets' if kind == 'secret' else 'personal'}; places in sensitive.parquet)"


def hide(refusals: pl.DataFrame, actions: Mapping[Kind, Action]) -> pl.DataFrame:
    """Return a table of refusals without secrets in their excerpts, and without personal data unless these are only reported.

    A text that was cut also loses its last word: it may be the beginning of a secret, which no rule can recognise.
    """
    kinds: list[Kind] = ["secret"] if actions["personal"] == "report" else ["secret", "personal"]
    record = pl.col("record")
    whole_words = record.str.extract(UP_TO_LAST_WORD, 1).fill_null("") + "…"
    shown = refusals.with_columns(pl.when(record.str.len_chars() < EXCERPT).then(record).otherwise(whole_words))
    suspects = list(search.suspects(shown.select(pl.format("{}\n{}", "record", "detail")).to_series()))
    if not suspects:
        return shown
    texts = {name: shown[name].to_list() for name in ("record", "detail")}
    for column in texts.values():
        for position in suspects:
            column[position] = search.redacted(column[position], kinds)
    return shown.with_columns(pl.Series(name, column, pl.String) for name, column in texts.items())


def example_parts(example: Example) -> list[Part]:
    """Return every text of an example that comes from the data."""
    parts = []
    for message in example.messages:
        parts.append(Part(message.role, message.content))
        parts += [Part(f"call of {call.name}", call.arguments) for call in message.tool_calls or ()]
    if example.rejected is not None:
        parts.append(Part("rejected", example.rejected))
    if example.tools is not None:
        parts.append(Part("tools", example.tools))
    if example.tests is not None:
        tests = (example.tests.prelude, example.tests.code, example.tests.entry)
        parts.append(Part("tests", "\n".join(filter(None, tests))))
    return parts


def redact_example(example: Example, kinds: Sequence[Kind]) -> Example:
    """Return an example with placeholders in every text, and the id of its new contents."""
    weights, tests = example.weights, example.tests
    if weights is not None:
        weights = search.redacted_weights(weights, search.spans(example.response, kinds))
    if tests is not None and not tests.run_programs:
        tests = replace(
            tests, code=search.redacted_json(tests.code, kinds), entry=search.redacted_json(tests.entry, kinds)
        )
    messages = [_redact_message(message, kinds) for message in example.messages]
    tools = example.tools and search.redacted_json(example.tools, kinds)
    rejected = example.rejected and search.redacted(example.rejected, kinds)
    return replace(
        example,
        id=identify(messages, tests, tools=tools, rejected=rejected, desirable=example.desirable),
        messages=messages,
        group=search.distinct_redacted(example.group, kinds),
        tests=tests,
        weights=weights,
        tools=tools,
        rejected=rejected,
    )


def redact_document(document: Document, kinds: Sequence[Kind]) -> Document:
    """Return a document with placeholders, and the id of its new contents."""
    text, group = search.redacted(document.text, kinds), search.distinct_redacted(document.group, kinds)
    return replace(document, id=content_id(document.domain, group, text), text=text, group=group)


def _screen(
    items: Sequence[Sourced[R]],
    parts_of: Callable[[R], list[Part]],
    redact: Callable[[R, Sequence[Kind]], R],
    actions: Mapping[Kind, Action],
    rescued: Collection[str],
) -> Screening[R]:
    screened = list(items)
    refused: dict[int, tuple[str, str]] = {}
    places: list[SensitiveText] = []
    texts = ("\n".join(part.text for part in parts_of(item.record)) for item in items)
    for position, rules in search.suspects(texts).items():
        source, record = items[position]
        matches = list(_search(parts_of(record), rules))
        reason, done = _refusal(record, matches, actions), {kind: DONE[action] for kind, action in actions.items()}
        if reason and record.id in rescued:
            done = dict.fromkeys(actions, DONE["report"])
        elif reason:
            refused[position] = reason
            done = dict.fromkeys(actions, DONE["refuse"])
        else:
            redacted = [kind for kind, action in actions.items() if action == "redact"]
            if any(place.span.rule.kind in redacted for place in matches):
                screened[position] = Sourced(source, redact(record, redacted))
        places += [
            SensitiveText(
                source,
                record.source,
                place.part,
                place.span.rule.kind,
                place.span.rule.name,
                place.span.masked,
                done[place.span.rule.kind],
            )
            for place in matches
        ]
    return Screening(screened, refused, places)


def _search(parts: Sequence[Part], rules: Sequence[Rule]) -> Iterator[Match]:
    for part in parts:
        yield from (Match(part.name, span) for span in search.spans(part.text, ("secret", "personal"), rules))


def _refusal(
    record: Example | Document, matches: Sequence[Match], actions: Mapping[Kind, Action]
) -> tuple[str, str] | None:
    """Return the reason for refusing a record, with the places by rule and masked form; None if it is kept."""
    for place in sorted(matches, key=lambda place: place.span.rule.kind != "secret"):
        if actions[place.span.rule.kind] == "refuse":
            return REASONS[place.span.rule.kind], _shown(place)
    if isinstance(record, Example) and record.tests is not None and record.tests.run_programs:
        for place in matches:
            if actions[place.span.rule.kind] == "redact" and place.part in ("assistant", "tests"):
                return NOT_REDACTED, f"its tests passed with it: {_shown(place)}"
    if isinstance(record, Example) and record.rejected is not None:
        kinds = [kind for kind, action in actions.items() if action == "redact"]
        if search.redacted(record.rejected, kinds) == search.redacted(record.response, kinds):
            return EQUAL_SIDES, "redacted, the chosen answer and the rejected one are the same"
    return None


def _shown(place: Match) -> str:
    return f"{place.span.rule.name} in {place.part}: {place.span.masked}"


def _redact_message(message: Message, kinds: Sequence[Kind]) -> Message:
    calls = message.tool_calls and [
        replace(call, arguments=search.redacted_json(call.arguments, kinds)) for call in message.tool_calls
    ]
    content = message.content
    redact = search.redacted_json if message.role == "tool" else search.redacted
    return replace(message, content=redact(content, kinds), tool_calls=calls)
