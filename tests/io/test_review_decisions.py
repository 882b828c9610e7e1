"""Decisions are read as they were written, the last one on an id counts, and a line that is none is named."""

import json

import pytest

from tasks.core.records import Decision
from tasks.io import review_decisions


def test_the_last_decision_on_an_id_counts_and_its_time_is_for_people(tmp_path):
    path = tmp_path / "review_decisions.jsonl"
    review_decisions.append(path, Decision("a", "reject", "ann", "wrong", time="2026-01-01"))
    review_decisions.append(path, Decision("b", "edit", "bob", "clearer", "Yes – é."))
    review_decisions.append(path, Decision("a", "accept", "ann", "right after all", time="2026-01-02"))
    assert review_decisions.read(path) == {
        "a": Decision("a", "accept", "ann", "right after all"), "b": Decision("b", "edit", "bob", "clearer", "Yes – é."),
    }  # fmt: skip


def test_remarks_and_empty_lines_decide_nothing(tmp_path):
    path = tmp_path / "review_decisions.jsonl"
    path.write_text("# what people decided\n\n")
    assert review_decisions.read(path) == {}
    review_decisions.append(path, Decision("a", "reject", "ann", "# wrong"))
    assert review_decisions.read(path)["a"].reason == "# wrong"


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("{", "Expecting property name"),
        ("[]", "it is no object"),
        (
            {"id": "a", "decision": "maybe", "author": "ann", "reason": ""},
            "decision: Input should be 'accept', 'edit' or 'reject'",
        ),
        ({"id": "a", "decision": "accept", "reason": ""}, "author: Field required"),
        ({"id": "a", "decision": "accept", "author": "ann", "reason": "", "extra": 1}, "there is no field extra"),
        ({"id": "a", "decision": "edit", "author": "ann", "reason": "", "text": " "}, "an edit needs `text`"),
    ],
)
def test_a_line_that_is_no_decision_is_named(tmp_path, line, problem):
    path = tmp_path / "review_decisions.jsonl"
    path.write_text("\n" + (line if isinstance(line, str) else json.dumps(line)) + "\n")
    with pytest.raises(ValueError, match="line 2") as error:
        review_decisions.read(path)
    assert problem in str(error.value)


def test_decisions_under_the_former_name_are_one_message_that_tells_the_move(tmp_path):
    path, former = tmp_path / "review_decisions.jsonl", tmp_path / "decisions.jsonl"
    path.write_text("# remarks alone\n")
    former.write_text("# remarks alone\n")
    review_decisions.check_name(path)
    review_decisions.append(former, Decision("a", "reject", "ann", "wrong"))
    for use in (review_decisions.check_name, review_decisions.read):
        with pytest.raises(ValueError, match=rf"git mv --force {former} {path}\n"):
            use(path)
    review_decisions.append(path, Decision("a", "accept", "ann", "right"))
    with pytest.raises(ValueError, match=f"put the lines of {former} before those of {path}"):
        review_decisions.check_name(path)
    assert review_decisions.read(former)["a"].decision == "reject"  # nothing was moved or lost
