"""Columns of any name become a conversation, by settings or by a guess that says its reason."""

import json

import pytest

from tasks.core.records import Example, Refusal
from tasks.io.sources.record import Row
from tasks.stages.ingest.config import File
from tasks.stages.ingest.reading.examples import example_from_row
from tasks.stages.ingest.reading.guesses import choices, judged, nested, table, threads
from tasks.stages.ingest.reading.guesses.names import first_named


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


NULLS = {"q": None, "many": ["x", None], "about": {"year": None}, "text": "It was in 1066."}


@pytest.mark.parametrize(
    "written",
    [
        "q", "q | trim", "q | upper", "q | string", "q | replace('a', 'b')", "'Q: ' ~ q", "'%s' | format(q)", "many | join",
        "many | string", "about.year", "about.year | trim", "row.get('q') | trim", "row.get('gone') | trim", "none if text else q",
    ],
)  # fmt: skip
def test_a_null_is_never_written_as_a_word(written):
    refusal = read(NULLS | {"a": "A"}, prompt=f"{{{{ {written} }}}} {{{{ text }}}}", response="a")
    assert (refusal.reason, "a column that it writes is null" in refusal.detail) == ("columns do not fit", True)


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("{% if q %}{{ q }} {% endif %}B", "B"),
        ("{% if q is none and q == none and none == q and q is defined %}B{% endif %}", "B"),
        ("{% if q is sameas none and text is not sameas none and about.year is sameas q %}B{% endif %}", "B"),
        ("{{ q or 'B' }}", "B"),
        ("{{ q | default('B', true) }}", "B"),
        ("{{ q | int(5) }}", "5"),
        ("{{ many | select | join }}", "x"),
        ("{{ row.get('gone', 'B') }}", "B"),
        ("{{ {none: 'B'}[q] }}", "B"),
        ("{{ [about, many] | tojson }}", '[{"year": null}, ["x", null]]'),
    ],
)
def test_a_null_is_none_to_a_template_that_asks(template, text):
    assert read(NULLS | {"a": "A"}, prompt=template, response="a") == [("user", text), ("assistant", "A")]


@pytest.mark.parametrize(
    ("written", "told"),
    [
        ("q.name", "'null' has no attribute 'name'"),
        ("q | length", "'null' has no len"),
        ("q[:3]", "'null' object is not"),
    ],
)
def test_what_a_null_cannot_do_is_told_of_a_null(written, told):
    assert told in read(NULLS | {"a": "A"}, prompt=f"{{{{ {written} }}}}", response="a").detail


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
    return table.guess(rows)


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


def test_a_text_that_a_multiple_choice_is_about_stands_above_its_question():
    row = {"article": "A long story about it.", "question": "Q?", "options": ["no", "yes"], "answer": 2}
    prompt, response = read(row, **guessed(row, row | {"answer": 1}).columns)
    assert prompt[1] == "A long story about it.\n\nQ?\n\nA. no\nB. yes"
    assert response[1] == "B. yes"


@pytest.mark.parametrize(
    ("row", "prompt", "response"),
    [
        ({"question": "Q?", "context": "It is so.", "answers": {"text": ["so", "is so"], "answer_start": [6]}}, "Q?\n\nIt is so.", "so"),
        ({"question": "Q?", "answers": [{"body": "so", "score": 3}]}, "Q?", "so"),
        ({"question": "Q?", "answer": ["so", "is so"]}, "Q?", "so"),
        ({"question": "Q?", "answer": {"value": "so", "aliases": ["is so"]}}, "Q?", "so"),
        ({"inputs": {"question": "Q?"}, "outputs": {"answer": "so"}, "id": 7}, "Q?", "so"),
        ({"translation": {"de": "Es ist so.", "en": "It is so."}}, "Es ist so.", "It is so."),
        ({"problem": "Q?", "background": "It is so.", "solution": "so"}, "Q?\n\nIt is so.", "so"),
        ({'the "first" question': "Q?", 'its "context"': "It is so.", "answer": ["so"]}, "Q?\n\nIt is so.", "so"),
    ],
)  # fmt: skip
def test_texts_within_lists_and_objects_and_what_a_question_is_about(row, prompt, response):
    other = {name: value for name, value in row.items() if "context" not in name}
    answer = guessed(row, row | {"id": 8}, other)
    assert read(row, **answer.columns) == [("user", prompt), ("assistant", response)]
    if other != row:
        assert read(other, **answer.columns) == [("user", "Q?"), ("assistant", response)]


@pytest.mark.parametrize(
    ("text", "made"),
    [
        ({"article": "A long story of many words, number {n}."}, {"highlights": "A short story {n}."}),
        ({"text": "Write a function that adds {n}."}, {"code": "def add(x): return x + {n}"}),
    ],
)
def test_a_text_and_what_is_made_of_it(text, made):
    names = [*text, *made]
    rows = [{name: value.format(n=n) for name, value in (text | made).items()} for n in range(5)]
    answer = guessed(*rows)
    assert answer.columns == {"prompt": names[0], "response": names[1]}
    assert f"{names[1]!r} for what is made of it" in answer.reason
    country = [row | {names[1]: f"D{n}"} for n, row in enumerate(rows)]
    assert guessed(*country).columns == {}


def test_texts_of_one_label_go_together():
    rows = [{"premise": f"It rains, {n}.", "hypothesis": f"It is wet, {n}.", "label": n % 2} for n in range(9)]
    answer = guessed(*rows)
    assert read(rows[1], **answer.columns) == [("user", "It rains, 1.\n\nIt is wet, 1."), ("assistant", "1")]


def test_spans_are_no_labels():
    answer = guessed(*({"text": f"Anna lives here, number {n}.", "label": [[0, 4, "PER"]]} for n in range(5)))
    assert (answer.columns, answer.text) == ({}, "text")


def test_the_reason_for_a_corpus_is_true():
    rows = [{"title": f"Title {n}", "text": f"A long text, number {n}."} for n in range(5)]
    answer = guessed(*rows)
    assert (answer.text, "only column" in answer.reason) == ("text", False)
    assert "only column" in guessed(*({"text": row["text"]} for row in rows)).reason


def test_rows_that_are_one_message_each_are_pointed_out():
    rows = [{"chat": n // 2, "role": "user", "content": f"A message, number {n}."} for n in range(6)]
    answer = guessed(*rows)
    assert (answer.text, "'chat' and 'role' say that a row is one message" in answer.reason) == ("content", True)


def test_a_row_in_the_place_of_names_is_pointed_out():
    for names in (
        ["Why does it rain so often in the summer here?", "Because the wind comes from the sea, they say."],
        ["Why so?", "It is."],
        ["Why so?", "No"],
    ):
        answer = guessed(*(dict(zip(names, (f"Why, {n}?", f"Because, {n}."), strict=True)) for n in range(5)))
        assert "the first row of the table: if it is a record, give --no-header" in answer.reason
    assert "first row" not in guessed(*({"x1": f"ab{n} cd", "x2": f"efg{n} hijk"} for n in range(5))).reason


def test_columns_with_numbers_for_names_are_taken_by_their_contents():
    pairs = [{"column 1": f"Why, {n}?", "column 2": f"Because, {n}."} for n in range(6)]
    labels = [{"column 1": ("good", "bad")[n % 2], "column 2": f"I saw film {n} again"} for n in range(6)]
    for rows, columns in (
        (pairs, {"prompt": "column 1", "response": "column 2"}),
        (labels, {"prompt": "column 2", "response": "column 1"}),
    ):
        answer = guessed(*rows)
        assert answer.columns == columns
        assert answer.reason.endswith("because no row names them. If the first row does, give --header")


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

    def counted(names, words):
        looks.append(words)
        return first_named(names, words)

    for module in (table, choices, judged, nested, threads):
        monkeypatch.setattr(module, "first_named", counted)
    rows = [{f"merkmal_{number}": number for number in range(4_000)}] * 5
    assert table.guess(rows) is None
    assert len(looks) < 20
