"""A program is taken out of the text around it, and every answer gets the grade of its own run."""

import pytest

from tasks.core import records
from tasks.core.answers.base import Grade
from tasks.io.sandbox import Verdict
from tasks.stages.evaluate.solve import graded, program
from tests import tiny


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("```python\ndef f():\n    pass\n```", "def f():\n    pass"),
        ("Sure!\n```\nx = 1\n```\nThere.", "x = 1"),
        ("```py\nx = 1\n```\nand\n```py\ny = 2\n```", "x = 1"),
        ("```python\nx = 1\ny =", "x = 1\ny ="),
        ("```python  \nx = 1\n```", "x = 1"),
        ("x = 1\n", "x = 1\n"),
        ("", ""),
        ("```python\nx = '```'\n```", "x = '```'"),
    ],
)
def test_the_program_is_the_first_block_or_the_whole_answer(text, expected):
    assert program(text) == expected


def with_tests(number, kind):
    return tiny.example(number, tests=records.Tests(kind, "code", str(number)))


def test_each_answer_has_the_grade_of_its_own_run():
    examples = [with_tests(0, "doctest"), with_tests(1, "answer"), with_tests(2, "script"), with_tests(3, "answer")]
    answers = ["```\na\n```", "42", "b", "43"]
    ran = []

    def run_cases(cases):
        for case in cases:
            ran.append((case.program, case.tests.entry))
            passes = case.program == "b"
            yield Verdict("passed" if passes else "assertion", 1, "", inside=passes)

    def verify(tests, text):
        return Grade(1.0, "passed", text) if (tests.entry, text) == ("1", "42") else Grade(0.5, "some fields", text)

    assert list(graded(examples, answers, run_cases, verify)) == [
        Grade(0.0, "assertion"),
        Grade(1.0, "passed", "42"),
        Grade(1.0, "passed", inside=True),
        Grade(0.5, "some fields", "43"),
    ]
    assert ran == [("a", "0"), ("b", "2")]


def test_answers_and_examples_that_do_not_pair_up_are_an_error():
    with pytest.raises(ValueError, match="zip"):
        list(graded([with_tests(0, "answer")], [], iter, lambda *_: Grade(1.0, "passed")))
