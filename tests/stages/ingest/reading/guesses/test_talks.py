"""Columns of turns are conversations whatever their names, and what is written as data is no text to train on."""

import json

import pytest

from tasks.core.records import Example
from tasks.stages.ingest.reading.guesses.table import guess
from tests.stages.ingest.reading.guesses.rows import read

NUMBER = 6


def turns(*said):
    return [{"role": ("user", "assistant")[place % 2], "content": text} for place, text in enumerate(said)]


def talk(n):
    return turns(f"Why {n}?", f"So {n}.", "Is it?", "Yes.")


def rows(**columns):
    return [{name: value(n) if callable(value) else value for name, value in columns.items()} for n in range(NUMBER)]


@pytest.mark.parametrize(
    "columns",
    [
        {"conversation_id": lambda n: f"c{n}", "conversation": talk, "language": "English", "turn": 2},  # LMSYS, WildChat
        {"id": lambda n: n, "conversation": lambda n: json.dumps(talk(n))},  # as a table without nesting has it
        {"chat": talk, "assistant_id": "a-1"},
        {"data": lambda n: {"id": n, "messages": talk(n)}},
        {"dialogue": talk, "old_dialogue": talk},
    ],
)  # fmt: skip
def test_a_column_of_turns_is_a_conversation(columns):
    answer = guess(rows(**columns))
    assert "holds turns with their speakers" in answer.reason
    example = read(rows(**columns)[1], answer)
    assert [message.content for message in example.messages] == ["Why 1?", "So 1.", "Is it?", "Yes."]


@pytest.mark.parametrize(
    "columns",
    [
        {"history": talk, "query_text": lambda n: f"And what of {n}?", "reply": lambda n: f"It is {n}, they say."},
        {"chat_one": talk, "chat_other": talk},
    ],
)
def test_turns_beside_an_answer_or_other_turns_are_not_the_conversation(columns):
    answer = guess(rows(**columns))
    assert answer is None or "messages" not in answer.columns


def test_a_verdict_on_two_conversations_makes_pairs():
    sides = {side: (lambda n, side=side: turns(f"Why {n}?", f"So {n} by {side}.")) for side in ("a", "b")}
    columns = {f"conversation_{side}": made for side, made in sides.items()}
    table = rows(**columns, winner=lambda n: ("model_a", "model_b", "tie")[n % 3], language="English")
    answer = guess(table)
    assert [(example.response, example.rejected) for example in (read(row, answer) for row in table[:2])] == [
        ("So 0 by a.", "So 0 by b."),
        ("So 1 by b.", "So 1 by a."),
    ]
    assert read(table[2], answer).reason == "columns do not fit"
    assert guess(rows(**columns, winner="the better one of them")) is None, "a verdict that is not known is no text"


def test_preferences_of_openai_are_read():
    table = rows(
        input=lambda n: {"messages": talk(n)[:3], "tools": []},
        preferred_output=turns("", "Yes.")[1:],
        non_preferred_output=turns("", "No.")[1:],
    )
    example = read(table[2], guess(table))
    assert isinstance(example, Example), example
    assert [message.content for message in example.messages] == ["Why 2?", "So 2.", "Is it?", "Yes."]
    assert example.rejected == "No."


@pytest.mark.parametrize(
    "column",
    [
        {"notes": lambda n: json.dumps([{"a": f"It rains on day {n}."}])},
        {"payload": lambda n: str({"text": f"It rains on day {n}."})},
        {"talk": lambda n: str(talk(n))},
        {"state": lambda n: ("opened", "closed", "waiting")[n % 3]},
    ],
)
def test_data_and_labels_are_no_running_text(column):
    assert guess(rows(id=lambda n: n, **column) * 2) is None
