"""Guess which columns of a table make a conversation, from their names in several languages and from their contents."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any

from tasks.core.text import templates
from tasks.io.sources.formats import headers
from tasks.stages.ingest.reading.guesses.annotated import are_annotated, guess_annotated
from tasks.stages.ingest.reading.guesses.choices import guess_choices
from tasks.stages.ingest.reading.guesses.judged import guess_judged, is_undecided
from tasks.stages.ingest.reading.guesses.names import (
    FEWEST_WORDS,
    IDS,
    INSTRUCTIONS,
    PROMPTS,
    RESPONSES,
    TEXTS,
    TOGETHER,
    VALUES,
    WEAK,
    Guess,
    Rows,
    as_expression,
    asked,
    first_named,
    is_about,
    names_of,
    num_words,
    prompt_of,
    quoted,
    text_columns,
    text_in,
    words_of,
)
from tasks.stages.ingest.reading.guesses.nested import guess_nested
from tasks.stages.ingest.reading.guesses.threads import guess_thread, thread_columns
from tasks.stages.ingest.reading.rows.transcripts import transcript

LABELS = (
    "label",
    "labels",
    "class",
    "category",
    "sentiment",
    "intent",
    "tag",
    "topic",
    "klasse",
    "kategorie",
    "categoria",
    "categorie",
)
MADE = ("summary", "highlights", "tldr", "abstract", "code", "sql", "zusammenfassung", "resumen", "resume", "riassunto")
"""Words for a text that is derived from another."""
EDITS = (("old", "new"), ("before", "after"))
TOLD = ("message", "subject", "instruction", "description", "commit")
"""Words for a text before and after an edit (`EDITS`), and for the description of the edit."""
PLACES = (*IDS, "start", "end", "offset", "position", "place", "time", "date", "timestamp", "created", "user")
"""Words for numbers that state the place, the time or the author of an answer."""
NAMED = (*IDS, "commit", "sha", "key", "token", "session")
"""Words for a column of identifiers."""
HASH = "[0-9a-f-]{7,}"
"""Matches a commit, a checksum or a UUID."""
TRANSLATIONS = ("translation", "translations")
PROGRAMS = ("sql", "query", "code", "program")
"""Words for the answer to a question if there is no better one."""
ASKED = ("answer", "target", "solution", "antwort", "loesung", "respuesta")
"""Words for an answer that may precede a word of `VALUES`: an `answer_date` may be what is asked for, but a `reply_date` is a time."""
NUMBERED = re.compile(r"[a-z]{0,6}[ _]?\d{1,2}", re.IGNORECASE)
"""Matches a name that only counts columns."""
FEWEST_LABELS, MAX_LABELS = 3, 50
"""Limits of the number of distinct values of a label: in a few rows `FEWEST_LABELS` are always allowed, and never more than `MAX_LABELS`."""
MOST = 0.8
"""Smallest share of rows with a transcript that makes a column one of transcripts."""
WRITTEN = r"\s*(?:\[\s*)?\{\s*['\"]|\s*\[\s*['\"]"
"""Matches the beginning of a list or object that is written as text."""
LISTED = 12
"""Most names of columns that a reason lists."""
LONG_NAME = 40
"""Most characters of a plausible column name. A longer name may be the first row of a table without a header."""
SENTENCES = (".", "!", "?", "。", "！", "？")
"""Ends of sentences. A column name with such an end is probably the first row of a table without a header."""


def guess(rows: Rows) -> Guess | None:
    """Return a guess from the first rows of a table, or None without evidence for one."""
    names = names_of(rows)
    by_names = (_spoken, _edited, _named, _made, _labelled, _within, _longest)
    guesses = (
        guess_annotated(rows),
        guess_choices(rows),
        _translated(rows),
        guess_nested(rows),
        guess_judged(rows),
        guess_thread(rows),
    )
    answer = next((answer for answer in guesses if answer is not None), None)
    told = tuple(f"{name}." for name in names if f"{name}.status" in names)  # to Argilla, in a way that no guess reads
    names = [name for name in names if not f"{name}.".startswith(told)]
    if answer is not None or is_undecided(rows) or are_annotated(rows):
        return answer
    answer = next((answer for by_name in by_names if (answer := by_name(rows, names)) is not None), None)
    if answer is not None and names and all(map(headers.NUMBERED.fullmatch, names)):
        numbered = "Columns are numbered, because no row names them. If the first row does, give --header"
        return replace(answer, reason=f"{answer.reason}. {numbered}")
    return answer


def _translated(rows: Rows) -> Guess | None:
    """Return the guess for a column that holds one text in several languages, as in data sets of translations."""
    name = first_named(names_of(rows), TRANSLATIONS)
    texts = [row[name] for row in rows if row.get(name)] if name else []
    if name is None or not texts or not all(isinstance(text, Mapping) and len(text) > 1 for text in texts):
        return None
    first, second, *_ = texts[0]
    columns = {
        side: f"{{{{ {as_expression(name)}[{quoted(language)}] }}}}"
        for side, language in (("prompt", first), ("response", second))
    }
    return Guess(columns, None, f"{name!r} holds a text in {first!r} and in {second!r}, in this order")


def _begins_as(name: str, words: Sequence[str]) -> bool:
    """Return True for a name of several words whose first is one of `words`: `input_output` is not an output."""
    spelled = words_of(name)
    return len(spelled) > 1 and spelled[0] in words


def _is_numeric(rows: Rows, name: str) -> bool:
    """Return True for a column of numbers only, which cannot be a question."""
    return all(isinstance(row.get(name), int | float | Decimal | None) for row in rows)


def _is_varied(rows: Rows, name: str) -> bool:
    """Return True for a column with several values, not all of them numbers."""
    values = {str(value) for row in rows if (value := row.get(name)) is not None}
    return len(values) > 1 and not all(re.fullmatch(r"-?\d+(?:\.\d+)?", value) for value in values)


def _spoken(rows: Rows, names: Sequence[str]) -> Guess | None:
    """Return the guess for a column of transcripts."""
    for name in names:
        texts = [text for row in rows if isinstance(text := row.get(name), str) and text]
        if texts and transcript(texts[0]) and len([text for text in texts if transcript(text)]) >= MOST * len(rows):
            return Guess({"messages": name}, None, f"{name!r} holds transcripts of conversations")
    return None


def _edited(rows: Rows, names: Sequence[str]) -> Guess | None:
    """Return the guess for a text before and after an edit, which a message describes."""
    told = first_named(names, TOLD)
    pairs = [
        (name, partner)
        for old, new in EDITS
        for name in names
        if old in re.split(r"[\W_]+", name) and (partner := name.replace(old, new)) in names
    ]
    if told is None or not pairs:
        return None
    before, after = max(pairs, key=lambda pair: num_words(rows, pair[1]))
    prompt = f"{{{{ {as_expression(told)} }}}}\n\n{{{{ {as_expression(before)} }}}}"
    return Guess({"prompt": prompt, "response": after}, None, f"{told!r} tells what became {after!r} of {before!r}")


def _sides(rows: Rows, names: Sequence[str]) -> tuple[str | None, str | None]:
    """Return the columns whose names are words for a prompt and for a response."""
    told = [name for name in names if not is_about(name)]
    prompt = prompt_of(rows, [name for name in told if not _is_numeric(rows, name)])
    return prompt, first_named([name for name in told if name != prompt and not _begins_as(name, PROMPTS)], RESPONSES)


def _named(rows: Rows, names: Sequence[str]) -> Guess | None:
    told = [name for name in names if not is_about(name)]
    prompt, response = _sides(rows, names)
    if (
        "solution" in names
        and response is not None
        and num_words(rows, "solution") > FEWEST_WORDS * num_words(rows, response)
    ):
        response = "solution"  # the other column holds only the result
    kind = "prompt"
    if prompt is not None and response is None:
        others = [name for name in told if name != prompt]
        made = (*PROGRAMS, *MADE) if first_named([prompt], INSTRUCTIONS) else PROGRAMS
        # A `language_code` is not a program.
        response = first_named(
            [name for name in others if name.lower() in made or num_words(rows, name) >= FEWEST_WORDS], made
        )
        if response is None and not text_columns(rows, others):
            response = first_named([name for name in names if is_about(name, VALUES) and _is_varied(rows, name)], ASKED)
    elif prompt is None and response is not None and num_words(rows, response) >= FEWEST_WORDS:
        texts = [name for name in text_columns(rows, names) if name != response]
        prompt, kind = first_named(texts, (*TEXTS, "description")), "text"
    if prompt is None or response is None:
        return None
    question, answer = text_in(rows, prompt), text_in(rows, response)
    if question is None or answer is None:
        return None
    question, about = asked(rows, (prompt, response), question)
    reason = f"{prompt!r} is a word for a {kind} and {response!r} for a response"
    if about is not None:
        reason += f"; {about!r} for what it is about"
    if any(_are_several(row.get(response)) for row in rows):
        reason += f". Some rows of {response!r} hold several answers, and the first one is taken"
        if told := _measures(rows, response):
            reason += (
                f", whatever its {' and '.join(map(repr, told))}: if these tell the best one, name it by a template"
            )
    return Guess({"prompt": question, "response": answer}, None, reason)


def _are_several(value: Any) -> bool:
    """Return True for a list of different items, or an object that contains such a list."""
    if isinstance(value, Mapping):
        return any(map(_are_several, value.values()))
    return isinstance(value, list) and any(item != value[0] for item in value[1:])


def _measures(rows: Rows, name: str) -> list[str]:
    """Return the fields of a column's lists of answers that hold numbers, which differ within a list and are no places or ids."""
    lists = [
        [item for item in row[name] if isinstance(item, Mapping)] for row in rows if isinstance(row.get(name), list)
    ]
    fields = [
        field for field in names_of([item for items in lists for item in items]) if not first_named([field], PLACES)
    ]
    values = {field: [[item.get(field) for item in items] for items in lists if items] for field in fields}
    return [
        field
        for field, each in values.items()
        if any(len(set(numbers)) > 1 for numbers in each if all(isinstance(number, int | float) for number in numbers))
    ]


def _made(rows: Rows, names: Sequence[str]) -> Guess | None:
    """Return the guess for a text and a text derived from it, such as a summary or a program."""
    texts = [name for name in text_columns(rows, names) if num_words(rows, name) >= FEWEST_WORDS]
    text = first_named(texts, TEXTS)
    made = first_named([name for name in texts if name != text], MADE)
    if text is None or made is None:
        return None
    return Guess(
        {"prompt": text, "response": made}, None, f"{text!r} is a word for a text and {made!r} for what is made of it"
    )


def _labelled(rows: Rows, names: Sequence[str]) -> Guess | None:
    label = first_named(names, LABELS) or _unnamed_label(rows, names)
    if label is None:
        return None
    told = [row[label] for row in rows if row.get(label) not in (None, [])]
    are_lists = bool(told) and all(
        isinstance(value, list) and all(isinstance(each, str) for each in value) for value in told
    )
    if not are_lists and any(isinstance(value, list | Mapping) for value in told):
        return None
    texts = text_columns(rows, [name for name in names if name != label])
    if not texts:  # the label may belong to a molecule or an address, but not to an id
        codes = [name for name in names if name != label and first_named([name], NAMED) is None]
        texts = text_columns(rows, codes, code=HASH)
    if not texts:
        return None
    text = first_named(texts, TEXTS) or texts[0]
    response = f'{{{{ {as_expression(label)} | join(", ") }}}}' if are_lists else label
    values = {", ".join(row[label]) if are_lists and row.get(label) else str(row.get(label)) for row in rows}
    if len(values) > min(MAX_LABELS, max(FEWEST_LABELS, len(rows) // 2)):  # labels repeat
        written = [{label: value} for value in values]
        if not are_lists or num_words(written, label) < FEWEST_WORDS:
            return None
        response = f"{{{{ {as_expression(label)}[0] }}}}"
        return Guess({"prompt": text, "response": response}, None, f"{label!r} holds what people wrote on {text!r}")
    reason = f"classification: {label!r} has {len(values)} values"
    if both := next((pair for pair in TOGETHER if set(pair) <= set(texts)), None):
        prompt = "\n\n".join(f"{{{{ {name} }}}}" for name in both)
        return Guess(
            {"prompt": prompt, "response": response}, None, f"{reason}, {both[0]!r} and {both[1]!r} are the texts"
        )
    return Guess({"prompt": text, "response": response}, None, f"{reason}, {text!r} is the text")


def _unnamed_label(rows: Rows, names: Sequence[str]) -> str | None:
    """Return the last column of repeated words, if columns have numbers for names (`column 2`, `v2`); None if there is none."""
    filled = [name for name in names if any(row.get(name) not in (None, "") for row in rows)]
    if not all(map(NUMBERED.fullmatch, filled)):
        return None
    varied = [name for name in filled if _is_varied(rows, name)]
    repeated = (name for name in varied if 2 * len({str(row.get(name)) for row in rows}) <= len(rows))
    return max(repeated, default=None, key=list(names).index)


def _holds_data(rows: Rows, name: str) -> bool:
    """Return True for a column whose texts are lists and objects in JSON or Python syntax, or a few repeated words."""
    texts = [text for row in rows if isinstance(text := row.get(name), str) and text]
    num_written = sum(bool(re.match(WRITTEN, text)) for text in texts)
    return 2 * num_written > len(texts) or (num_words(rows, name) < FEWEST_WORDS and 2 * len(set(texts)) < len(texts))


def _within(rows: Rows, names: Sequence[str]) -> Guess | None:
    """Return the guess for a prompt and a response within one object in each row."""
    for name in names:
        objects = [row.get(name) for row in rows]
        inner = [value for value in objects if isinstance(value, Mapping)]
        answer = _named(inner, names_of(inner)) if len(inner) == len(rows) else None
        if answer is not None and not any(map(templates.is_template, answer.columns.values())):
            columns = {
                kind: f"{{{{ {as_expression(name)}[{quoted(column)}] }}}}" for kind, column in answer.columns.items()
            }
            return Guess(columns, None, f"in {name!r}, {answer.reason}")
    return None


def _longest(rows: Rows, names: Sequence[str]) -> Guess | None:
    """Return the guess by contents: two columns of text are prompt and response, in this order; a single one is running text."""
    by, speaker = thread_columns(rows, names)
    is_thread = by is not None and speaker is not None
    texts = [name for name in text_columns(rows, names) if not is_thread or name not in (by, speaker)]
    asked, answer = _sides(rows, names)
    is_unread = answer is not None and asked is not None and first_named([asked], WEAK) is None
    if not texts or is_unread or _holds_data(rows, texts[0]):
        return None
    if len(texts) == 1:
        reason = f"{texts[0]!r} is its only column of text, so there is nothing to answer"
        if is_thread:
            reason += (
                f". {by!r} and {speaker!r} say that a row is one message: to train on conversations, name these columns, and who the "
                "assistant is, in `thread` of the source"
            )
        return Guess({}, texts[0], f"{reason}{_unused(rows, names, texts[0])}")
    if text := first_named(texts[:1], TEXTS):
        reason = f"{text!r} has the longest texts, and no column is a word for an answer to them"
        return Guess({}, text, f"{reason}{_unused(rows, names, text)}")
    prompt, response = sorted(texts[:2], key=list(names).index)
    if first_named([response], PROMPTS):
        if first_named([prompt], PROMPTS):
            return None  # neither is the answer, for example with a context and a question
        prompt, response, order = response, prompt, f"and {response!r} is a word for a prompt"
    else:
        order = "in this order"
    reason = f"{prompt!r} and {response!r} have the longest texts, {order}"
    if any(len(name) > LONG_NAME or name.endswith(SENTENCES) for name in (prompt, response)):
        reason += ". These names are the first row of the table: if it is a record, give --no-header"
    return Guess({"prompt": prompt, "response": response}, None, reason)


def _unused(rows: Rows, names: Sequence[str], text: str) -> str:
    """Return the end of a reason that names the columns beside a text that are not empty; no corpus uses them."""
    others = [name for name in names if name != text and any(row.get(name) not in (None, "", [], {}) for row in rows)]
    listed = ", ".join(
        [*map(repr, others[:LISTED]), *([f"{len(others) - LISTED} others"] if len(others) > LISTED else [])]
    )
    return f"; not used: {listed}" if others else ""
