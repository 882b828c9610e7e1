"""Guess the conversations in lists and objects within the columns of a table."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from tasks.stages.ingest.reading.guesses.logged import guess_logged
from tasks.stages.ingest.reading.guesses.names import (
    RESPONSES,
    Guess,
    Rows,
    as_expression,
    first_named,
    is_about,
    names_of,
    parsed,
    quoted,
    topic_of,
)
from tasks.stages.ingest.reading.rows.conversations import PAIRS, TURNS
from tasks.stages.ingest.reading.rows.tool_calls import TOOLS
from tasks.stages.ingest.reading.rows.turns import role_of

TALKS = ("conversation", "dialogue", "dialog", "data", "turns", "messages", "utterances", "utterance", "chat")
"""Columns, and fields of objects, that may hold the texts of a conversation with alternating speakers."""
FIELDS = (*TALKS, "text", "input_text", "answer")
"""Fields of objects that hold such texts, or the answers to questions."""
QUESTIONS = ("questions", "turns", "prompts", "queries")
ANSWERS = ("answers", "responses", "reference", "replies", "completions")
"""Columns with all questions, and columns with all answers, of a conversation."""
FEWEST = 2
"""Number of texts of the shortest conversation."""
SIDES = (
    *PAIRS,
    ("human", "assistant"),
    ("user", "assistant"),
    ("human", "gpt"),
    ("user", "bot"),
    ("query", "response"),
)
"""The fields of question and answer."""
TURN = "{{{{ {{'role': {role}, 'content': {content}}} | tojson }}}}"
COMMA = "{{ ', ' if not loop.last }}"


def guess_nested(rows: Rows) -> Guess | None:
    """Return the guess for conversations in lists and objects.

    They may be turns, alternating texts, pairs, lists of questions and of answers, or requests and responses.
    """
    makers: tuple[Callable[[Rows], Guess | None], ...] = (
        guess_logged,
        _spoken,
        _called,
        _paired,
        _parallel,
        _alternating,
    )
    return next((answer for make in makers if (answer := make(rows)) is not None), None)


def _spoken(rows: Rows) -> Guess | None:
    """Return the guess for a column of turns with speakers, or of objects with such a list. None beside an answer, whose context they are."""
    names = names_of(rows)
    talks = talk_columns(rows, names)
    if first_named([name for name in names if name not in talks and not is_about(name)], RESPONSES) is not None:
        return None
    exact = [name for name in talks if name.strip().lower() in TALKS]
    if len(talks) == 1 or exact:
        name = (exact or talks)[0]
        return Guess({"messages": name}, None, f"{name!r} holds turns with their speakers")
    for name in _columns(rows, Mapping) if not talks else ():
        inner = [row[name] for row in rows]
        if field := next((field for field in talk_columns(inner, names_of(inner)) if field in (*TURNS, *TALKS)), None):
            messages = f"{{{{ {as_expression(name)}[{quoted(field)}] | tojson }}}}"
            return Guess({"messages": messages}, None, f"{name!r} holds turns with their speakers in {field!r}")
    return None


def talk_columns(rows: Rows, names: Sequence[str]) -> list[str]:
    """Return the columns that in most rows hold turns of a user and an assistant, as a list or as JSON."""
    return [name for name in names if 2 * sum(_is_talk(row.get(name)) for row in rows) > len(rows)]


def _is_talk(value: Any) -> bool:
    value = parsed(value) or value
    return isinstance(value, list) and {"user", "assistant"} <= {role_of(turn) for turn in value}


def _called(rows: Rows) -> Guess | None:
    """Return the guess for a question with schemas of tools and the calls that answer it, as in xLAM's data."""
    names = names_of(rows)
    tools, question = first_named(names, TOOLS), first_named(names, ("query", "question", "instruction", "prompt"))
    calls = next((name for name in names if name != tools and all(_are_calls(row.get(name)) for row in rows)), None)
    if tools is None or question is None or calls is None or question == calls:
        return None
    is_text = any(isinstance(row[calls], str) for row in rows)
    listed = as_expression(calls) if is_text else f"{as_expression(calls)} | tojson"
    asked = TURN.format(role="'user'", content=as_expression(question))
    messages = f'[{asked}, {{"role": "assistant", "content": "", "tool_calls": {{{{ {listed} }}}}}}]'
    return Guess({"messages": messages}, None, f"{calls!r} holds the calls of {tools!r} that answer {question!r}")


def _are_calls(value: Any) -> bool:
    """Return True for a list of function calls, or for its JSON."""
    value = parsed(value) or value
    return _is_list(value) and all(
        isinstance(call, Mapping) and isinstance(call.get("name"), str) and "arguments" in call for call in value
    )


def _paired(rows: Rows) -> Guess | None:
    """Return the guess for a column of questions with their answers."""
    for name in _columns(rows, list):
        pairs = [pair for row in rows for pair in row[name]]
        for question, answer in SIDES if pairs else ():
            if all(isinstance(pair, Mapping) and {question, answer} <= pair.keys() for pair in pairs):
                turns = [
                    TURN.format(role=f"'{role}'", content=f"each[{quoted(field)}]")
                    for role, field in (("user", question), ("assistant", answer))
                ]
                messages = f"[{{% for each in {as_expression(name)} %}}{', '.join(turns)}{COMMA}{{% endfor %}}]"
                return Guess({"messages": messages}, None, f"{name!r} holds pairs of {question!r} and {answer!r}")
    return None


def _parallel(rows: Rows) -> Guess | None:
    """Return the guess for a list of questions and a list of as many answers. The text that they are about is put before the first question."""
    lists = dict(_lists_of_texts(rows))
    question = first_named(list(lists), QUESTIONS)
    answer = first_named([name for name in lists if name != question], ANSWERS)
    if (
        question is None
        or answer is None
        or any(len(q) != len(a) for q, a in zip(lists[question][1], lists[answer][1], strict=True))
    ):
        return None
    story = topic_of(rows, names_of(rows), (question, answer))
    asked = f"({as_expression(story)} ~ '\\n\\n' ~ text) if loop.first else text" if story else "text"
    turns = [
        TURN.format(role="'user'", content=asked),
        TURN.format(role="'assistant'", content=f"{lists[answer][0]}[loop.index0]"),
    ]
    messages = f"[{{% for text in {lists[question][0]} %}}{', '.join(turns)}{COMMA}{{% endfor %}}]"
    reason = f"{question!r} holds questions and {answer!r} their answers" + (
        f"; {story!r} is what they are about" if story else ""
    )
    return Guess({"messages": messages}, None, reason)


def _alternating(rows: Rows) -> Guess | None:
    """Return the guess for a column of texts with two alternating speakers."""
    lists = {name: path for name, (path, texts) in _lists_of_texts(rows) if any(len(each) >= FEWEST for each in texts)}
    name = first_named(list(lists), TALKS)
    if name is None:
        return None
    said = f"{lists[name]}[:{lists[name]} | length // 2 * 2]"
    turn = TURN.format(role="['user', 'assistant'][loop.index0 % 2]", content="text")
    messages = f"[{{% for text in {said} %}}{turn}{COMMA}{{% endfor %}}]"
    return Guess({"messages": messages}, None, f"{name!r} holds texts that two sides say in turn, the user first")


def _lists_of_texts(rows: Rows) -> Iterator[tuple[str, tuple[str, list[list[str]]]]]:
    """Yield each column that holds lists of texts, directly or in a field, with its path in a template, and the lists."""
    for name in _columns(rows, list):
        if all(_is_texts(row[name]) for row in rows):
            yield name, (as_expression(name), [row[name] for row in rows])
    for name in _columns(rows, Mapping):
        fields = [field for field in rows[0][name] if all(_is_texts(row[name].get(field)) for row in rows)]
        if field := first_named(fields, FIELDS):
            yield name, (f"{as_expression(name)}[{quoted(field)}]", [row[name][field] for row in rows])


def _columns(rows: Rows, kind: type) -> list[str]:
    """Return the columns that hold a value of a kind in every row."""
    return [name for name in rows[0] if all(isinstance(row.get(name), kind) for row in rows)] if rows else []


def _is_texts(value: Any) -> bool:
    """Return True for a list of texts, but not for a list of single words."""
    return _is_list(value) and all(isinstance(text, str) for text in value) and any(" " in text for text in value)


def _is_list(value: Any) -> bool:
    return isinstance(value, list) and bool(value)
