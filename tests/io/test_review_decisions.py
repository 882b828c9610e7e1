"""Decisions are read as they were written, the last one on an id counts, and a line that is none is named."""

import json
from concurrent.futures import ThreadPoolExecutor

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
            "decision: Input should be 'accept', 'edit', 'reject', 'flag' or 'withdraw'",
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


def test_a_withdrawn_decision_gives_way_to_the_one_before_it(tmp_path):
    path = tmp_path / "review_decisions.jsonl"
    for decision in ("accept", "reject", "withdraw"):
        review_decisions.append(path, Decision("a", decision, "ann", decision))
    assert review_decisions.read(path)["a"].decision == "accept"
    for _ in range(2):  # of which the second has nothing to take back
        review_decisions.append(path, Decision("a", "withdraw", "bob", ""))
    assert review_decisions.read(path) == {}
    assert [decision.author for decision in review_decisions.history(path)["a"]] == ["ann"] * 3 + ["bob"] * 2


def test_line_separators_of_unicode_part_no_line(tmp_path):
    path, text = tmp_path / "review_decisions.jsonl", "one\u2028two\u2029three\x85four"
    review_decisions.append(path, Decision("a", "edit", "Ōé", "", text))
    assert review_decisions.read(path)["a"].text == text


def test_a_last_line_without_an_end_is_ended_first(tmp_path):
    path = tmp_path / "review_decisions.jsonl"
    path.write_text(json.dumps({"id": "a", "decision": "accept", "author": "ann", "reason": ""}))
    review_decisions.append(path, Decision("b", "reject", "bob", ""))
    assert set(review_decisions.read(path)) == {"a", "b"}


def test_what_is_decided_at_once_is_decided_one_after_the_other(tmp_path):
    path = tmp_path / "review_decisions.jsonl"

    def count(history):
        return [Decision("a", "accept", "ann", str(len(history.get("a", ()))))]

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: review_decisions.record(path, count), range(40)))
    assert [decision.reason for decision in review_decisions.history(path)["a"]] == [str(n) for n in range(40)]


def test_nothing_is_written_where_deciding_fails(tmp_path):
    path = tmp_path / "review_decisions.jsonl"
    path.write_text("# a remark\n")
    with pytest.raises(ZeroDivisionError):
        review_decisions.record(path, lambda _: 1 // 0)
    assert path.read_text() == "# a remark\n"
