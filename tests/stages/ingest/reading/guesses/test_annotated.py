"""Of exports of annotation tools, what people submitted is the answer: not what they were shown, nor what they discarded."""

import json

import pytest

from tasks.stages.ingest.config import File
from tasks.stages.ingest.preview import preview
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


def test_what_a_person_wrote_is_read_where_no_status_is_told():
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
