"""Columns of any name become a conversation, by settings or by a guess that says its reason."""

import json

import pytest

from tasks.core.records import Example, Refusal
from tasks.io.sources.record import Row
from tasks.stages.ingest.config import File
from tasks.stages.ingest.reading import shapes
from tasks.stages.ingest.reading.examples import example_from_row


def read(values, **columns):
    source = File.model_validate({"from": "file", "path": "a.jsonl", **({"columns": columns} if columns else {})})
    record = example_from_row(Row("line 1", values), "file a.jsonl", source, "a")
    return record if isinstance(record, Refusal) else [(turn.role, turn.content) for turn in record.messages]


def test_named_columns():
    assert read({"frage": "Wie?", "antwort": 7, "id": 3}, prompt="frage", response="antwort") == [
        ("user", "Wie?"), ("assistant", "7"),
    ]  # fmt: skip


def test_templates_of_columns():
    row = {"title": "T", "body": "B", "Antwort 1": "A", "system": "S"}
    assert read(row, prompt="{{ title }}: {{ body }}", response='{{ row["Antwort 1"] }}!') == [
        ("system", "S"), ("user", "T: B"), ("assistant", "A!"),
    ]  # fmt: skip


def test_settings_go_before_the_usual_names():
    row = {"prompt": "no", "completion": "no", "messages": [], "q": "Q", "a": "A"}
    assert read(row, prompt="q", response="a") == [("user", "Q"), ("assistant", "A")]


def test_a_row_without_the_named_columns_is_read_by_the_usual_ones():
    assert read({"prompt": "P", "completion": "C"}, prompt="q", response="a") == [("user", "P"), ("assistant", "C")]


def test_turns_as_json_text():
    turns = [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "A"}]
    assert read({"chat": json.dumps(turns)}, messages="chat") == [("user", "Q"), ("assistant", "A")]
    assert read({"messages": json.dumps(turns)}) == [("user", "Q"), ("assistant", "A")]
    assert read({"messages": "[broken"}).reason == "not a list of turns"


@pytest.mark.parametrize(
    "template",
    [
        "{{ q.nothing }}",
        "{{ q + 1 }}",
        "{{ q.__class__.__mro__ }}",
        "{{ 1 / 0 }}",
        "{{ row['x'] }}",
        "{{ q.append(1) }}",
    ],
)
def test_a_template_that_does_not_fit_refuses_the_row(template):
    refusal = read({"q": "Q", "a": "A"}, prompt=template, response="a")
    assert (refusal.reason, template in refusal.detail) == ("columns do not fit", True)


def test_a_preference_under_other_names():
    source = File.model_validate(
        {"from": "file", "path": "a", "columns": {"prompt": "f", "response": "b", "rejected": "s"}}
    )
    record = example_from_row(Row("line 1", {"f": "Q", "b": "good", "s": "bad"}), "file a", source, "a")
    assert (record.response, record.rejected) == ("good", "bad")


def test_a_label_that_is_the_answer_is_no_judgement_of_it():
    source = File.model_validate({"from": "file", "path": "a", "columns": {"prompt": "text", "response": "label"}})
    record = example_from_row(Row("line 1", {"text": "Is it so?", "label": True}), "file a", source, "a")
    assert (record.response, record.desirable) == ("True", None)


def guessed(*rows):
    return shapes.guess(rows)


@pytest.mark.parametrize(
    ("names", "prompt", "response"),
    [
        (("Antwort", "Frage"), "Frage", "Antwort"),
        (("id", "user_question", "bot-reply"), "user_question", "bot-reply"),
        (("Pregunta", "Respuesta"), "Pregunta", "Respuesta"),
        (("вопрос", "ответ"), "вопрос", "ответ"),
        (("Requête", "Réponse"), "Requête", "Réponse"),
    ],
)
def test_names_in_several_languages(names, prompt, response):
    answer = guessed(dict.fromkeys(names, "x"))
    assert answer.columns == {"prompt": prompt, "response": response}
    assert prompt in answer.reason


def test_classification():
    rows = [{"text": f"It was as dull as number {n}.", "label": n % 2} for n in range(9)]
    answer = guessed(*rows)
    assert answer.columns == {"prompt": "text", "response": "label"}
    assert "classification: 'label' has 2 values" in answer.reason
    assert read(rows[1], **answer.columns) == [("user", "It was as dull as number 1."), ("assistant", "1")]


@pytest.mark.parametrize(
    "row",
    [
        {"question": "Q?", "choices": ["no", "yes"], "answer": 1},
        {"question": "Q?", "choices": ["no", "yes"], "answerKey": "B"},
        {"question": "Q?", "choices": ["no", "yes"], "answer": "yes"},
        {"question": "Q?", "choices": {"text": ["no", "yes"], "label": ["A", "B"]}, "answerKey": "B"},
        {"question": "Q?", "A": "no", "B": "yes", "C": "never", "answer": "B"},
    ],
)
def test_multiple_choice(row):
    other = {**row, **{key: {1: 0, "B": "A", "yes": "no"}[row[key]] for key in ("answer", "answerKey") if key in row}}
    answer = guessed(other, row)
    prompt, response = read(row, **answer.columns)
    assert prompt[1].startswith("Q?\n\nA. no\nB. yes")
    assert response == ("assistant", "B. yes")


def test_texts_alone_are_for_the_corpus():
    answer = guessed(*({"id": str(n), "text": f"A long text, number {n}."} for n in range(5)))
    assert (answer.columns, answer.text) == ({}, "text")


def test_columns_of_no_known_name_are_taken_by_length():
    answer = guessed(*({"x1": f"ab{n} cd", "n": n, "x2": f"efg{n} hijk"} for n in range(5)))
    assert answer.columns == {"prompt": "x1", "response": "x2"}


def test_numbers_alone_are_no_conversation():
    assert guessed({"a": 1, "b": "2"}, {"a": 3, "b": "4"}) is None
    assert guessed() is None


def test_an_example_says_where_it_is_from():
    source = File.model_validate({"from": "file", "path": "a.jsonl"})
    record = example_from_row(Row("line 7", {"prompt": "P", "completion": "C"}), "file a.jsonl", source, "a")
    assert isinstance(record, Example)
    assert record.source == record.group == "file a.jsonl: line 7"


def test_a_table_of_thousands_of_columns_is_looked_through_a_few_times(monkeypatch):
    looks = []
    monkeypatch.setattr(
        shapes, "_first", lambda names, words, first=shapes._first: looks.append(words) or first(names, words)
    )
    rows = [{f"merkmal_{number}": number for number in range(4_000)}] * 5
    assert shapes.guess(rows) is None
    assert len(looks) < 10
