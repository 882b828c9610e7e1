"""The answers on the page hide neither gains nor losses."""

from tasks.stages.report.data import answers as answer_pairs
from tests.stages.report.material import answers


def tasks(before: str, after: str) -> list:
    """Return pairs of answers, `1` for one that passed."""
    return list(zip(*(answers([letter == "1" for letter in side]) for side in (before, after)), strict=True))


def test_each_kind_is_counted():
    counts = answer_pairs.count_kinds(tasks("00110", "01010"))
    assert counts == {"gained": 1, "lost": 1, "passed by both": 1, "failed by both": 2}


def test_one_of_each_kind_comes_before_the_second_of_any():
    chosen = answer_pairs.choose_answers(tasks("000001", "111100"), 4)
    assert [answer_pairs.kind(pair) for pair in chosen] == ["gained", "lost", "failed by both", "gained"]


def test_no_more_are_shown_than_there_are():
    assert len(answer_pairs.choose_answers(tasks("01", "10"), 10)) == 2
    assert answer_pairs.choose_answers(tasks("01", "10"), 0) == []


def test_outcomes_are_counted_for_both_models_and_passed_stands_first():
    assert list(answer_pairs.count_outcomes(tasks("0001", "0011")).items()) == [("passed", (1, 2)), ("syntax", (3, 2))]
