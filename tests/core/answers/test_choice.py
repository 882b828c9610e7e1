"""The check `choice`: the right option of a row, and the option that an answer names."""

import pytest

from tasks.core.answers import registry
from tasks.core.answers.base import Row
from tasks.core.answers.choice import chosen_option
from tasks.core.records import Unfit
from tests.core.answers.grading import graded, unfit

CITIES = ["Paris", "London", "Rome", "Berlin"]
OPTIONS = ["Paris", "Rome", "New Rome"]
LISTED = "Where?\nA) Paris\nB) Rome\nC) New Rome"


@pytest.mark.parametrize(
    ("answer", "chosen"),
    [
        ("A and C", None),
        ("Both A and B", None),
        ("A or B", None),
        ("The answer is A and C.", None),
        ("Answer: B or D", None),
        (r"\boxed{A, and C}", None),
        ("Answer: **A** and **C**", None),
        ("Answer: A/C", None),
        ("The options are A and B. The answer is B.", 1),
        ("The answer is A and B is wrong.", 0),
        ("The answer is C and A good guess is B", 2),
        ("A good guess and I think C", 2),
        ("The answer is B.", 1),
    ],
)
def test_an_answer_that_names_two_options_has_chosen_none(answer, chosen):
    assert chosen_option(answer, CITIES) == chosen


@pytest.mark.parametrize(
    ("options", "answer", "chosen"),
    [
        (["5", "-5"], "-5", 1),
        (["-5", "5"], "5.", 1),
        (["-5", "5"], "x = −5", 0),
        (["5", "7"], "-5", None),
        (["5", "7"], "It is 0.5", None),
        (["5%", "5"], "5", 1),
        (["$5", "$7"], "7", 1),
        (["AA", "Aa", "aa"], "Aa", 1),
        (["> 5", "< 5"], "< 5", 1),
        (["red", "dark red"], "It is dark red.", 1),
        (["red", "dark red"], "It is red, not dark red.", None),
    ],
)
def test_options_that_differ_in_signs_or_hold_one_another_are_told_apart(options, answer, chosen):
    assert chosen_option(answer, options) == chosen


def test_the_text_of_an_option_comes_before_a_letter_that_stands_alone():
    assert chosen_option("It needs vitamin C, I guess", ["iron", "vitamin C", "vitamin D"]) == 1


@pytest.mark.parametrize(
    ("answer", "number"),
    [
        ("B", 1),
        ("(B)", 1),
        ("**B**", 1),
        ("B) Rome", 1),
        ("The answer is B.", 1),
        ("A? No: the answer is (B)", 1),
        ("Rome", 1),
        ("rome.", 1),
        ("It must be Paris, I think", 0),
        ("Paris or Rome", None),
        ("D", None),
        ("A city", None),
        ("b", 1),
        ("(b)", 1),
        ("I think it's B.", 1),
        ("Hence, B.", 1),
        ("B seems right", 1),
        ("Réponse : B", 1),
        ("答案是B。", 1),
        ("Ответ: B, а не что-то ещё", 1),
        ("Either B or C", None),
        ("We go through them.\nA) no\nB) yes\nC) no\nSo it has to be Rome.", 1),
        ("We go through them.\nA) Paris: no\nB) Rome: yes\n\nSo it has to be Rome.", 1),
        ("A) Paris\nFor these are wrong:\nB) Rome\nC) New Rome", 0),
        ("Well.\nB) Rome\nThese are wrong:\nA) Paris\nC) New Rome", 1),
        ("", None),
    ],
)
def test_an_option_is_named_by_letter_or_text(answer, number):
    assert chosen_option(answer, OPTIONS) == number


@pytest.mark.parametrize(
    "answer",
    [
        "The correct answer is B. Option A is incorrect because it is in France.",
        "The answer is B, because A is in France and choice C is Italy.",
        "The answer is B: London. Here is A brief explanation.",
        "The correct option is B. Option A is wrong.",
        "The answer is B. Answer A is wrong.",
        "The answer is option B, and option C is not.",
        "Option A is close. So the answer is A? No: the answer is (B)",
        "B) London. Choice C is wrong.",
        "**B.** London, since option A is wrong",
        "A) is Paris.\nB) is London.\nSo it is B.",
        "Option A is wrong, so option B",
        "I think it is B",
        "**Answer:** B",
        "**Answer**: B",
        "**Final answer:** (B)",
        "Answer is: **B**",
        "### Answer\nB",
        r"\boxed{B}",
        r"$\boxed{\text{B}}$",
        r"\boxed{(B)}, as option A is wrong",
        r"The answer is \boxed{B}.",
        "The answer is `B`.",
        'The answer is "B".',
        r"The answer is \(B\), since option A is wrong.",
        r"The answer is \[\mathrm{B}\]",
        "<answer>B</answer>",
    ],
)
def test_a_stated_letter_comes_before_one_that_is_mentioned(answer):
    assert chosen_option(answer, CITIES) == 1


@pytest.mark.parametrize(
    ("values", "letter"),
    [
        ({"question": "Where?", "choices": OPTIONS, "answer": 1}, "B"),
        ({"question": "Where?", "choices": OPTIONS, "answer": "C"}, "C"),
        ({"question": "Where?", "choices": OPTIONS, "answer": "Rome"}, "B"),
        ({"question": "Where?", "choices": {"text": OPTIONS, "label": ["1", "2", "3"]}, "answerKey": "3"}, "C"),
    ],
)
def test_a_column_of_options_is_listed_in_the_prompt(values, letter):
    check = registry.parse({"kind": "choice", "options": "choices"})
    shaped = check.reshape(values)
    assert shaped == {"prompt": "Where?\n\nA) Paris\nB) Rome\nC) New Rome", "response": letter}
    expected = check.expect(Row(shaped["prompt"], shaped["response"], values))
    assert (expected["options"], check.shown(expected)) == (OPTIONS, letter)
    by_text = registry.parse({"kind": "choice", "options": "choices", "answer": "text"})
    assert by_text.reshape(values) == {"prompt": "Where?", "response": OPTIONS["ABC".index(letter)]}


@pytest.mark.parametrize(
    ("options", "answer", "letter"),
    [
        (["true", "false"], False, "B"),
        ([True, False], True, "A"),
        (["yes", "no"], True, None),
        (["a", "b", "c"], 1.0, "B"),
        (["a", "b", "c"], "1.0", "B"),
        (["a", "b", "c"], 1.5, None),
        (["a", "b", "c"], float("nan"), None),
        ([1, 2, 3], 2, "B"),
        ([1.0, 2.0, 3.0], 2, "B"),
        ([10, 20, 30], 2, None),
        (["1", "2", "3"], 2, "C"),  # among texts a number is a place
        (["1", "2", "3"], "2", "B"),
    ],
)
def test_a_right_option_is_a_truth_value_or_a_number_where_options_are(options, answer, letter):
    shaped = registry.parse({"kind": "choice", "options": "options"}).reshape(
        {"question": "Which?", "options": options, "answer": answer}
    )
    assert (None if isinstance(shaped, Unfit) else shaped["response"]) == letter


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"question": "Where?", "choices": OPTIONS, "answer": "Oslo"}, "choices without the right one"),
        ({"question": "Where?", "choices": OPTIONS, "answer": 3}, "choices without the right one"),
        ({"question": "Where?", "choices": OPTIONS, "answer": None}, "choices without the right one"),
        ({"question": "Where?", "choices": ["Rome", "Rome"], "answer": 0}, "no options"),
        ({"question": "Where?", "choices": "Rome", "answer": 0}, "no options"),
        ({"choices": OPTIONS, "answer": 0}, "no question"),
    ],
)
def test_options_that_are_none_are_named(values, reason):
    shaped = registry.parse({"kind": "choice", "options": "choices"}).reshape(values)
    assert isinstance(shaped, Unfit)
    assert shaped.reason == reason


def test_options_are_read_from_a_prompt_that_lists_them():
    assert graded("choice", "B", "It is B", prompt=LISTED).score == 1
    assert graded("choice", "Rome", "A", prompt=LISTED) == (0.0, "wrong", "A", False)
    assert unfit("choice", "B", prompt="Where?") == "no options"
    assert unfit("choice", "D", prompt=LISTED) == "choices without the right one"
