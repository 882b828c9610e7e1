"""The option that an answer names is found, and none where it names two."""

import pytest

from tasks.core.answers.choice import chosen_option

CITIES = ["Paris", "London", "Rome", "Berlin"]


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
