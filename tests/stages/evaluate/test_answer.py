"""A program is taken out of the text around it, and every answer gets the outcome of its own run."""

import pytest

from tasks.core import records
from tasks.io.sandbox import Verdict
from tasks.stages.evaluate.answer import judge, program
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
        ("```python\n```", ""),
    ],
)
def test_the_program_is_the_first_block_or_the_whole_answer(text, expected):
    assert program(text) == expected


def tested(number, kind):
    return tiny.example(number, tests=records.Tests(kind, "code", str(number)))


def test_each_answer_has_the_outcome_of_its_own_run():
    examples = [tested(0, "doctest"), tested(1, "answer"), tested(2, "script"), tested(3, "answer")]
    answers = ["```\na\n```", "42", "b", "43"]
    ran = []

    def run_cases(cases):
        for case in cases:
            ran.append((case.program, case.tests.entry))
            yield Verdict(outcome="passed" if case.program == "b" else "failed")

    def score(example, text):
        return 1.0 if (example.id, text) == ("example-0001", "42") else 0.99

    assert list(judge(examples, answers, run_cases, score)) == ["failed", "passed", "passed", "wrong"]
    assert ran == [("a", "0"), ("b", "2")]


def test_answers_and_examples_that_do_not_pair_up_are_an_error():
    with pytest.raises(ValueError, match="zip"):
        list(judge([tested(0, "answer")], [], iter, lambda *_: 1.0))
