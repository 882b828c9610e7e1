"""An answer is judged by what stands behind its reasoning."""

import pytest

from tasks.core.answers import registry
from tasks.core.answers.base import Row
from tasks.core.answers.tool_call import calls
from tasks.core.text.programs import program
from tasks.core.text.reasoning import answer_of, reasoned
from tasks.io import verifiers


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("42", "42"),
        (" 42\n", " 42\n"),
        (reasoned("6 × 7", "42"), "42"),
        ("6 × 7\n</think>\n\n42", "42"),
        ("<think>\n</think>\n<think>\n6 × 7\n</think>\n\n42\n", "42\n"),
        ("<think>\n6 × 7 = 41, or", ""),
        ("\n<think>6 × 7</think>42", "42"),
        ("Write `<think>` before it.", "Write `<think>` before it."),
        (reasoned("6 × 7", ""), ""),
    ],
)
def test_the_answer_begins_behind_the_reasoning(text, answer):
    assert answer_of(text) == answer


@pytest.mark.parametrize(
    ("kind", "response", "right", "wrong"),
    [
        ("exact", "Paris", reasoned("Rome?", "Paris"), reasoned("Paris", "Rome")),
        ("number", "42", reasoned("41?", "42"), "42?\n</think>\n\n41"),
        ("contains", "rain", reasoned("snow?", "rain"), reasoned("rain?", "snow")),
        ("json", '{"a": 1}', reasoned('{"a": 2}', '{"a": 1}'), reasoned('{"a": 1}', '{"a": 2}')),
    ],
)
def test_checks_look_at_the_answer(kind, response, right, wrong):
    tests = registry.tests(registry.parse(kind), Row("?", response))
    assert [verifiers.grade(tests, answer).score for answer in (right, wrong, f"<think>\n{response}")] == [1, 0, 0]


def test_programs_and_calls_are_looked_for_behind_it():
    blocks = [f"```python\n{code}\n```" for code in ("wrong()", "right()")]
    assert program(reasoned(*blocks)) == "right()"
    assert program(reasoned(blocks[0], "right()")) == "right()"
    tried, made = ('<tool_call>{"name": "' + name + '", "arguments": {}}</tool_call>' for name in ("tried", "made"))
    assert [call["name"] for call in calls(reasoned(tried, made))] == ["made"]
