"""Propose the check of a source from its rows: the first kind whose shape nearly all answers have."""

import re
import statistics
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from tasks.core.answers import registry, tool_call
from tasks.core.answers.base import Row, loosely
from tasks.core.answers.choice import Choice, is_number, read_options
from tasks.core.answers.number import MARK, MARKED, last_number
from tasks.core.records import Unfit
from tasks.core.text.reasoning import answer_of
from tasks.io.sources.record import Row as Record
from tasks.stages.ingest.config import Datasets, File, Query
from tasks.stages.ingest.reading.examples import read_records
from tasks.stages.ingest.reading.guesses.choices import counts_from_one
from tasks.stages.ingest.reading.rows.columns import usual
from tasks.stages.ingest.reading.rows.conversations import conversation
from tasks.stages.ingest.reading.rows.tool_calls import as_text

ROWS = 2000
"""Number of first rows of a source that are looked at."""
NEARLY_ALL = 0.95
FEW_LABELS, MANY_LABELS = 5, 20
"""Answers are labels if there are at most this many different ones: the first limit applies to numbers too, the second to words."""
EACH_LABEL = 5
"""Fewest rows for each label, on average."""
SHORT = 40
"""Most characters of an answer that can be compared as a whole."""
BARE_NUMBER = re.compile(r"\W*\d[\d.,\s/]*(?:\w{1,12}\W*){0,2}")


@dataclass(frozen=True)
class Proposal:
    """The check that a source's answers suggest, or the reason for none."""

    check: str | dict[str, Any] | None
    """In the form of `check` in params.yaml."""
    reason: str
    shapes: bool = False
    """True if the check itself makes conversations of the rows, so that no columns have to be guessed."""


def propose(source: File | Query | Datasets) -> Proposal:
    """Return the proposed check of a source, from its first `ROWS` rows."""
    records, _ = read_records(source)
    read = (usual(record.values, source.columns) for _, record in islice(records, ROWS) if isinstance(record, Record))
    rows = [values for values in read if not isinstance(values, Unfit)]
    if source.columns is None and (choice := _options_column(rows)) is not None:
        return choice
    answers = [row for values in rows if (row := _answer(values)) is not None]
    if not answers:
        return Proposal(None, "no row is a question with an answer")
    for make in (_calls, _json, _marked_numbers, _listed_choices, _few_labels, _bare_numbers, _many_labels, _short):
        if (proposal := make(answers)) is not None:
            return proposal
    length = round(statistics.median(len(row.response) for row in answers))
    return Proposal(None, f"answers are texts (median {length} characters); `rouge`, `chrf` or `judge` may suit")


def _answer(values: Mapping[str, Any]) -> Row | None:
    messages = conversation(values)
    if isinstance(messages, Unfit):
        return None
    return Row("\n".join(message.content for message in messages[:-1]), answer_of(as_text(messages[-1])), values)


def _options_column(rows: Sequence[Mapping[str, Any]]) -> Proposal | None:
    """Propose `choice` if a column holds options and another one names the right one."""
    for column in dict.fromkeys(name for values in rows for name in values):
        with_options = [values for values in rows if read_options(values.get(column)) is not None]
        if len(with_options) < NEARLY_ALL * len(rows):
            continue
        setting = {"kind": "choice", "options": column}
        check = Choice(options=column)
        fitting = [v for v in with_options if not isinstance(check.reshape(v), Unfit)]
        if (
            fitting
            and not _counts_from_one(with_options, column, check)
            and not _are_places(with_options, column, check)
        ):
            return Proposal(setting, f"column `{column}` holds options in {_of(len(with_options), rows)} rows, and the right one is named in {_of(len(fitting), with_options)}", shapes=True)  # fmt: skip
    return None


def _counts_from_one(rows: Sequence[Mapping[str, Any]], options: str, check: Choice) -> bool:
    """Return True if the right options are numbers that count from 1. The check counts from 0 and would take each for the next option."""
    numbers = set()
    for values in rows:
        column = check.reference_column(values)
        texts, labels = read_options(values[options]) or ([], [])
        is_place = column is not None and re.fullmatch(r"\d{1,9}", str(values[column]).strip())
        if column is None or not is_place or labels or any(map(is_number, values[options])):
            return False
        numbers.add((int(values[column]), len(texts)))
    return counts_from_one(numbers)


def _are_places(rows: Sequence[Mapping[str, Any]], options: str, check: Choice) -> bool:
    """Return True if options are numbers and most right ones are none of these: they are places, which the check would take for numbers."""
    told = [(values[column], values[options]) for values in rows if (column := check.reference_column(values))]
    among = [answer in texts for answer, texts in told if is_number(answer) and all(map(is_number, texts))]
    return 2 * sum(among) < len(among)


def _by_share(answers: Sequence[Row], has_shape: Callable[[Row], bool], setting: Any, shape: str) -> Proposal | None:
    count = sum(map(has_shape, answers))
    if count < NEARLY_ALL * len(answers):
        return None
    return Proposal(setting, f"{_of(count, answers)} answers {shape}")


def _fits(kind: str) -> Callable[[Row], bool]:
    check = registry.parse(kind)
    return lambda row: not isinstance(check.expect(row), Unfit)


def _calls(answers: Sequence[Row]) -> Proposal | None:
    def is_call(row: Row) -> bool:
        tagged = tool_call.TAG.search(row.response) is not None
        return bool(list(tool_call.calls(row.response))) and (tagged or '"arguments"' in row.response)

    return _by_share(answers, is_call, "tool_call", "are calls of a tool")


def _json(answers: Sequence[Row]) -> Proposal | None:
    def is_json(row: Row) -> bool:
        return row.response.lstrip("`json \n")[:1] in ("{", "[") and _fits("json")(row)

    return _by_share(answers, is_json, "json", "are JSON")


def _marked_numbers(answers: Sequence[Row]) -> Proposal | None:
    def is_marked(row: Row) -> bool:
        return MARKED.search(row.response) is not None and last_number(row.response) is not None

    return _by_share(answers, is_marked, "number", f"end in `{MARK} NUMBER`")


def _bare_numbers(answers: Sequence[Row]) -> Proposal | None:
    def is_number(row: Row) -> bool:
        return BARE_NUMBER.fullmatch(row.response) is not None and last_number(row.response) is not None

    return _by_share(answers, is_number, "number", "are numbers")


def _listed_choices(answers: Sequence[Row]) -> Proposal | None:
    return _by_share(answers, _fits("choice"), "choice", "name an option that the prompt lists")


def _few_labels(answers: Sequence[Row]) -> Proposal | None:
    return _labels(answers, FEW_LABELS)


def _many_labels(answers: Sequence[Row]) -> Proposal | None:
    return _labels(answers, MANY_LABELS)


def _labels(answers: Sequence[Row], most: int) -> Proposal | None:
    counts = Counter(loosely(row.response) for row in answers)
    is_labels = 2 <= len(counts) <= most and len(answers) >= EACH_LABEL * len(counts)
    if not is_labels or not all(0 < len(label) <= SHORT for label in counts):
        return None
    shown = ", ".join(f"{label} {count}" for label, count in counts.most_common(FEW_LABELS))
    setting = {"kind": "labels", "labels": sorted(counts)}
    return Proposal(setting, f"{len(answers):,} answers are {len(counts)} labels ({shown}{', …' if len(counts) > FEW_LABELS else ''})")  # fmt: skip


def _short(answers: Sequence[Row]) -> Proposal | None:
    def is_short(row: Row) -> bool:
        return len(row.response) <= SHORT and "\n" not in row.response

    setting = {"kind": "exact", "ignore_case": True, "ignore_punctuation": True}
    return _by_share(answers, is_short, setting, f"are of one line and at most {SHORT} characters")


def _of(count: int, rows: Sequence[Any]) -> str:
    return f"{count:,} of {len(rows):,}"
