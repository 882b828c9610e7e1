"""The check of a source is proposed from its answers, with the reason and the counts."""

import json

import pytest

from tasks.stages.ingest.columns_config import Columns
from tasks.stages.ingest.config import File
from tasks.stages.ingest.preview.check_proposal import propose
from tasks.stages.ingest.preview.examples import preview

CALL = '<tool_call>{"name": "f", "arguments": {"n": %d}}</tool_call>'


def source(tmp_path, rows):
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return File.model_validate({"from": "file", "path": path})


def pairs(answers):
    return [{"question": f"Question {n}?", "answer": answer} for n, answer in enumerate(answers)]


@pytest.mark.parametrize(
    ("answers", "check", "reason"),
    [
        ([f"It is {n}.\n#### {n},000" for n in range(1, 41)], "number", "40 of 40 answers end in `#### NUMBER`"),
        ([f"{n / 2} km" for n in range(40)], "number", "40 of 40 answers are numbers"),
        (
            [f"{n % 28 + 1:02d}.01.2024" for n in range(40)],
            {"kind": "exact", "ignore_case": True, "ignore_punctuation": True},
            "40 of 40 answers are of one line and at most 40 characters",
        ),
        ([json.dumps({"n": n}) for n in range(40)], "json", "40 of 40 answers are JSON"),
        ([CALL % n for n in range(40)], "tool_call", "40 of 40 answers are calls of a tool"),
        (
            ["good", "Bad", "bad.", "good"] * 10,
            {"kind": "labels", "labels": ["bad", "good"]},
            "40 answers are 2 labels (good 20, bad 20)",
        ),
        (["0", "1"] * 20, {"kind": "labels", "labels": ["0", "1"]}, "40 answers are 2 labels (0 20, 1 20)"),
        (
            [f"Town of letter {chr(65 + n % 26)} {'x' * n}" for n in range(19)] + ["A long one. " * 20],
            {"kind": "exact", "ignore_case": True, "ignore_punctuation": True},
            "19 of 20 answers are of one line and at most 40 characters",
        ),
        (
            [f"Number {n} has a long story to tell. " * 5 for n in range(40)],
            None,
            "answers are texts (median 179 characters); `rouge`, `chrf` or `judge` may suit",
        ),
        (
            [f"#### Step {n}\nIt has a long story to tell.\n#### End\nSo it is {n}." for n in range(40)],
            None,
            "answers are texts (median 63 characters); `rouge`, `chrf` or `judge` may suit",
        ),
    ],
)
def test_a_check_is_proposed_by_the_shape_of_the_answers(tmp_path, answers, check, reason):
    proposal = propose(source(tmp_path, pairs(answers)))
    assert (proposal.check, proposal.reason) == (check, reason)


def test_a_column_of_options_is_multiple_choice_though_its_rows_are_no_conversations(tmp_path):
    rows = [{"question": f"Which, {n}?", "choices": ["a", "b", str(n)], "answer": n % 3} for n in range(40)]
    rows[7] = {"question": "Which?", "choices": ["a", "b"], "answer": "neither"}
    file = source(tmp_path, rows)
    assert propose(file).check == {"kind": "choice", "options": "choices"}
    shown = preview((file,))
    assert shown["kept"] == 39
    assert shown["refused"] == {"check does not fit: choices without the right one": 1}
    assert shown["checks"][0]["reason"] == (
        "column `choices` holds options in 40 of 40 rows, and the right one is named in 39 of 40"
    )
    assert shown["rows"][1] == {
        "prompt": "Which, 1?\n\nA) a\nB) b\nC) 1",
        "response": "B",
        "rejected": None,
        "desirable": None,
        "source": f"file {file.path.name}: line 2",
    }


def test_options_that_are_counted_from_one_are_not_taken_for_the_next_one_each(tmp_path):
    rows = [{"question": f"Which, {n}?", "options": ["a", "b", str(n)], "answer": n % 3 + 1} for n in range(40)]
    file = source(tmp_path, rows)
    assert propose(file).check == {"kind": "labels", "labels": ["1", "2", "3"]}  # of the answers without their options
    (guess,) = preview((file,))["guesses"]
    named = preview((file.model_copy(update={"columns": Columns(**guess["columns"])}),))
    assert [row["response"] for row in named["rows"]] == ["A. a", "B. b", "C. 2", "A. a", "B. b"]
    assert named["rows"][0]["prompt"] == "Which, 0?\n\nA. a\nB. b\nC. 0"
    assert named["checks"][0]["check"] == "choice"


@pytest.mark.parametrize(
    ("first", "answer", "check", "response"),
    [
        (lambda n: n, lambda n: n + 1, {"kind": "choice", "options": "options"}, "B"),
        (lambda n: n % 2 + 1, lambda n: n % 2 + 1, {"kind": "choice", "options": "options"}, "A"),
        (lambda n: n + 50, lambda n: n % 3, "choice", "B. 52"),  # places
    ],
)
def test_a_number_among_numbers_is_one_of_them_unless_most_are_places(tmp_path, first, answer, check, response):
    rows = [
        {"question": f"Which, {n}?", "options": [first(n) + add for add in range(3)], "answer": answer(n)}
        for n in range(40)
    ]
    file = source(tmp_path, rows)
    (guess,) = preview((file,))["guesses"]
    shown = preview((file.model_copy(update={"columns": Columns(**guess["columns"])}) if guess else file,))
    assert shown["checks"][0]["check"] == check
    assert (shown["kept"], shown["rows"][1]["response"]) == (40, response)


def test_a_right_option_of_many_digits_is_none(tmp_path):
    rows = [{"question": f"Which, {n}?", "options": ["a", "b"], "answer": "1"} for n in range(40)]
    rows[7]["answer"] = "9" * 4400
    assert propose(source(tmp_path, rows)).check == {"kind": "choice", "options": "options"}


def test_a_passage_and_a_number_in_digits(tmp_path):
    rows = [
        {"ctx": f"Which, {n}?", "article": "It is so.", "endings": ["a", "b", f"c{n}"], "label": str(n % 3)}
        for n in range(40)
    ]
    assert propose(source(tmp_path, rows)).check == {"kind": "choice", "options": "endings"}
    row = preview((source(tmp_path, rows),))["rows"][2]
    assert (row["prompt"], row["response"]) == ("It is so.\n\nWhich, 2?\n\nA) a\nB) b\nC) c2", "C")


def test_options_that_the_prompt_lists_are_multiple_choice(tmp_path):
    rows = [{"prompt": f"Which, {n}?\nA) one\nB) two", "completion": "AB"[n % 2]} for n in range(20)]
    proposal = propose(source(tmp_path, rows))
    assert (proposal.check, proposal.reason) == ("choice", "20 of 20 answers name an option that the prompt lists")


def test_where_no_row_is_a_question_nothing_is_proposed(tmp_path):
    assert propose(source(tmp_path, [{"text": "word"}] * 20)).check is None


def test_a_check_that_is_named_is_not_proposed_anew(tmp_path):
    named = source(tmp_path, pairs(["4", "5"] * 10)).model_copy(update={"check": None})
    given = File.model_validate({"from": "file", "path": named.path, "check": "exact"})
    assert preview((given,))["checks"] == [None]
