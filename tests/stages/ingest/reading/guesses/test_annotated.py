"""Of exports of annotation tools, what people submitted is the answer: not what they were shown, nor what they discarded."""

import json

import pytest

from tasks.stages.ingest.config import File
from tasks.stages.ingest.preview.examples import preview
from tasks.stages.ingest.reading.guesses.table import guess
from tests.stages.ingest.reading.guesses.rows import read

NUMBER = 9
SUGGESTED = {"corrected.suggestion": "A suggestion of it.", "corrected.suggestion.agent": "m"}


def status(n):
    return "discarded" if n % 3 == 0 else "submitted"


def flat(n):
    """A record of Argilla 2, of which two people judged the last one."""
    answers, told = ([f"By hand {n}, so."], [status(n)])
    if n == NUMBER - 1:
        answers, told = ["A draft of it.", *answers], ["draft", *told]
    return {"corrected.responses": answers, "corrected.responses.users": ["u"], "corrected.responses.status": told, **SUGGESTED}  # fmt: skip


def of_hub(n, name="corrected"):
    """A record of Argilla 1 as it pushed them to the hub."""
    return {name: [{"user_id": "u", "value": f"By hand {n}, so.", "status": status(n)}], f"{name}-suggestion": "A suggestion of it."}  # fmt: skip


@pytest.mark.parametrize(
    "make",
    [
        lambda n: {"prompt": f"Why is it {n}?", "response": "A guess of a model.", **flat(n)},
        lambda n: {"prompt": f"Why is it {n}?", **flat(n)},
        lambda n: {"text": f"Why is it {n}?", **flat(n)},
        lambda n: {"prompt": f"Why is it {n}?", "response": "A guess of a model.", **of_hub(n)},
        lambda n: {"prompt": f"Why is it {n}?", **of_hub(n, "response")},
    ],
)
def test_what_a_person_submitted_is_the_answer_and_what_was_discarded_is_refused(tmp_path, make):
    rows = [{"id": f"r{n}", "status": "completed", **make(n)} for n in range(NUMBER)]
    answer = guess(rows)
    for place in (1, NUMBER - 1):
        assert [m.content for m in read(rows[place], answer).messages] == [f"Why is it {place}?", f"By hand {place}, so."]  # fmt: skip
    assert read(rows[3], answer).reason == "columns do not fit"
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (found,) = preview((File.model_validate({"from": "file", "path": tmp_path / "a.jsonl"}),))["guesses"]
    assert found["columns"] == answer.columns


def test_what_a_person_wrote_is_read_where_no_status_is_reported():
    rows = [
        {"id": f"r{n}", "fields": {"prompt": f"Why is it {n}?", "response": "A guess of a model."},
         "suggestions": {"corrected": {"value": "A suggestion.", "score": None, "agent": "m"}},
         "responses": {"corrected": [{"value": f"By hand {n}, so.", "user_id": "u"}]}} for n in range(NUMBER)
    ]  # fmt: skip
    answer = guess(rows)
    assert read(rows[2], answer).response == "By hand 2, so."
    assert read(rows[2] | {"responses": {}}, answer).reason == "columns do not fit"


def test_a_judgement_is_no_answer_beside_a_response_and_is_one_alone():
    def row(n, shown):
        judged = {"quality.responses": [("good", "bad")[n % 2]], "quality.responses.status": ["submitted"]}
        return {"prompt": f"Why is it {n}?", **shown, **judged}

    assert guess([row(n, {"response": f"So it is {n}."}) for n in range(NUMBER)]).columns["response"] == "response"
    rows = [row(n, {}) for n in range(NUMBER)]
    assert read(rows[1], guess(rows)).response == "bad"


def result(kind, value):
    return {"from_name": "answer", "type": kind, "value": value}


@pytest.mark.parametrize(
    ("kind", "value", "response"),
    [
        ("textarea", {"text": ["It is so."]}, "It is so."),
        ("choices", {"choices": ["good"]}, "good"),
        ("choices", {"choices": ["good", "long"]}, "good, long"),
    ],
)
def test_an_annotation_that_was_cancelled_is_no_answer(kind, value, response):
    draft = {"was_cancelled": True, "result": [result(kind, {name: ["a draft"] for name in value})]}
    done = {"was_cancelled": False, "result": [result(kind, value)]}
    rows = [
        {"id": n, "data": {"text": f"A film as dull as {n}."}, "annotations": [draft, done] if n % 2 else [done]}
        for n in range(NUMBER)
    ]
    answer = guess(rows)
    for place in (0, 1):
        assert read(rows[place], answer).response == response
    assert read(rows[0] | {"annotations": [{"result": []}, done]}, answer).response == response
    assert read(rows[0] | {"annotations": [draft]}, answer).reason == "columns do not fit"


def labelled(n, data, *fields):
    """A task of Label Studio, and what a person wrote or chose in these fields."""
    results = [
        {"type": kind, "from_name": name, "value": {{"textarea": "text"}.get(kind, kind): [value]}}
        for kind, name, value in fields
    ]
    return {"id": n, "data": data, "annotations": [{"was_cancelled": False, "result": results}]}


def test_of_several_fields_that_a_person_wrote_the_one_with_the_longest_texts_is_the_answer():
    def row(n):
        title, summary = ("textarea", "title", f"Title {n}"), ("textarea", "summary", f"It is about the number {n}.")
        return labelled(n, {"text": f"A text about {n}."}, *([title, summary] if n % 2 else [summary]))

    answer = guess([row(n) for n in range(NUMBER)])
    assert [read(row(n), answer).response for n in (1, 2)] == ["It is about the number 1.", "It is about the number 2."]
    assert "of 'summary', 'title' it is 'summary'" in answer.reason


def test_several_fields_that_a_person_chose_are_no_answer():
    rows = [
        labelled(n, {"text": f"On {n}."}, ("choices", "mood", "good"), ("choices", "topic", "art")) for n in range(9)
    ]
    assert guess(rows) is None


@pytest.mark.parametrize(
    ("data", "prompt"),
    [
        ({"question": "Why is it?", "context": "It was in May."}, "Why is it?\n\nIt was in May."),
        ({"premise": "It rains a lot.", "hypothesis": "It is wet."}, "It rains a lot.\n\nIt is wet."),
        ({"title": "On rain", "body": "It rains a lot."}, "On rain\n\nIt rains a lot."),
        ({"question": "Why is it?"}, "Why is it?"),
    ],
)
def test_all_that_a_person_was_shown_is_the_prompt(data, prompt):
    each = [{name: text + "!" * n for name, text in data.items()} for n in range(NUMBER)]
    rows = [labelled(n, shown, ("choices", "mood", "good")) for n, shown in enumerate(each)]
    assert read(rows[0], guess(rows)).messages[0].content == prompt
    rows = [{"fields": each[n], "responses": {"mood": [{"value": f"So it is, {n}."}]}} for n in range(NUMBER)]
    assert read(rows[0], guess(rows)).messages[0].content == prompt


def test_a_ranking_in_argilla_is_no_answer():
    rows = [
        {"prompt": f"Why, {n}?", "a": f"So, {n}.", "b": f"Not so, {n}.", "order.responses.users": ["u"],
         "order.responses": [[{"rank": 1, "value": "a"}, {"rank": 2, "value": "b"}]], "order.responses.status": ["submitted"]}
        for n in range(NUMBER)
    ]  # fmt: skip
    assert not (answer := guess(rows)) or "order" not in str(answer.columns)


@pytest.mark.parametrize(
    ("field", "response", "told"),
    [
        ("points_given", "Good 0.", "the best one"),
        ("upvotes", "Good 0.", "the best one"),
        ("merit", "Bad 0.", "whatever its 'merit'"),
        ("answer_start", "Bad 0.", "the first one is taken"),
    ],
)
def test_the_numbers_of_answers_choose_the_best_one_or_are_named(field, response, told):
    rows = [
        {"question": f"Why, {n}?", "answers": [{"text": f"Bad {n}.", field: 1}, {"text": f"Good {n}.", field: 9}]}
        for n in range(NUMBER)
    ]
    answer = guess(rows)
    assert read(rows[0], answer).response == response
    assert told in answer.reason
    assert (field in answer.reason) == (field != "answer_start")


PRODIGY = {"_input_hash": 1, "_task_hash": 2, "_view_id": "classification", "_timestamp": 3}


def prodigy(**columns):
    return [
        PRODIGY | {"text": f"It rains on day {n}."} | {name: value(n) for name, value in columns.items()}
        for n in range(9)
    ]


def test_of_prodigy_a_label_counts_where_people_accepted_it():
    rows = prodigy(label=lambda n: ("rain", "sun")[n % 2], answer=lambda n: ("accept", "reject", "ignore")[n % 3])
    answer = guess(rows)
    assert read(rows[0], answer).response == "rain"
    assert [read(row, answer).reason for row in rows[1:3]] == ["columns do not fit"] * 2


def test_of_prodigy_a_single_label_is_accepted_or_not():
    rows = prodigy(label=lambda _: "rain", answer=lambda n: ("accept", "reject", "ignore")[n % 3])
    answer = guess(rows)
    assert [read(row, answer).response for row in rows[:2]] == ["rain", "not rain"]
    assert read(rows[2], answer).reason == "columns do not fit"


def test_of_prodigy_the_options_that_people_chose_are_the_answer():
    options = [{"id": "r", "text": "Rain"}, {"id": "s", "text": "Sun"}]
    rows = prodigy(
        options=lambda _: options, accept=lambda n: [["r"], ["s"], ["r", "s"]][n % 3], answer=lambda _: "accept"
    )
    answer = guess(rows)
    assert [read(row, answer).response for row in rows[:3]] == ["Rain", "Sun", "Rain, Sun"]
    assert read(rows[0] | {"answer": "ignore"}, answer).reason == "columns do not fit"
