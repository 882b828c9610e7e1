"""Suites of tests are worth what they notice: good ones and vacuous ones are told apart, and what cheats is named."""

from collections import Counter
from functools import partial
from types import SimpleNamespace

import pytest

from tasks.core import statistics
from tasks.core.answers import registry, unit_tests
from tasks.core.answers.base import Row
from tasks.core.records import Unfit
from tasks.core.text import suites
from tasks.core.text.wording import block
from tasks.engine.inference.generation import Response
from tasks.io import sandbox
from tasks.io.weights import checkpoints
from tasks.stages.evaluate import stage, summarise
from tasks.stages.evaluate.config import EvaluateConfig, SuitesConfig
from tasks.stages.evaluate.problem_sets import ProblemSet, problem_sets
from tasks.stages.evaluate.suites.grading import Suites
from tasks.stages.evaluate.suites.marking import PRELUDE, SEEN, marked
from tests import tiny as small
from tests.support import ScratchRun

CLAMP = """def clamp(x, low, high):
    if x < low:
        return low
    if x > high:
        return high
    return x
"""
LIMITS = sandbox.Limits(wall_s=2.0, cpu_s=1.0)
GOOD = (
    "assert clamp(5, 0, 9) == 5\nassert clamp(-1, 0, 9) == 0\nassert clamp(10, 0, 9) == 9\nassert clamp(0, 1, 9) == 1"
)
HALF = "assert clamp(5, 0, 9) == 5"
VACUOUS = "assert clamp(5, 0, 9) is not Ellipsis"


def problem(number=0, answer=GOOD, program=CLAMP, entry="clamp"):
    row = Row("", answer, {"program": program, "entry": entry})
    tests = registry.tests(registry.parse("unit_tests"), row)
    return small.example(
        number, prompt="Write tests", response=block(answer), tests=tests, domain="toolz", split="test"
    )


def graded(*answers, own=GOOD):
    problems = [problem(number, own) for number in range(len(answers))]
    grader = Suites(
        SuitesConfig(mutants=12), partial(sandbox.run, limits=LIMITS), partial(sandbox.outputs, limits=LIMITS)
    )
    grades = grader.grade(problems, [block(answer) for answer in answers])
    figures = {}
    for row in grader.measured:
        figures.setdefault(row.measure, []).append(row)
    return grades, figures


def values(rows):
    return [round(row.value, 3) for row in rows]


def test_good_half_and_vacuous_suites_are_told_apart_where_all_of_them_pass():
    grades, figures = graded(GOOD, HALF, VACUOUS)
    good, half, vacuous = (grade.score for grade in grades)
    assert 1 >= good > half > vacuous == 0
    assert good > 0.7
    assert [grade.verdict for grade in grades] == ["passed", "passed", "notices nothing"]
    assert values(figures[unit_tests.RIGHT]) == [1, 1, 1]
    assert values(figures[unit_tests.LINES]) == [1, 0.6, 0.6]
    assert values(figures[unit_tests.BRANCHES]) == [1, 0.5, 0.5]
    assert values(figures[unit_tests.OWN]) == [round(good, 3)] * 3


CHEATS = {
    "assert clamp(": "syntax",
    "clamp(5, 0, 9)": "no assertion",
    "clamp(5, 0, 9)\nassert True": "no assertion",
    "def clamp(x, low, high):\n    return x\nassert clamp(5, 0, 9) == 5": "edits the function",
    "import solution\nsolution.clamp = lambda *a: 5\nassert clamp(5, 0, 9) == 5": "edits the function",
    "from unittest.mock import patch\nwith patch('solution.clamp', return_value=5):\n    assert clamp(5, 0, 9) == 5": "edits the function",
    "import sys\nm = sys.modules['solution']\nm.__dict__['cl' + 'amp'] = lambda *a: 5\nassert m.clamp(5, 0, 9) == 5": "edits the function",
    "assert clamp.__code__.co_argcount == 3": "reads its code",
    "while clamp(5, 0, 9):\n    pass\nassert clamp(5, 0, 9) == 5": "timeout",
    "assert clamp(5, 0, 9) == 6": "assertion",
    "assert clomp(5, 0, 9) == 5": "exception",
    "import pytest\nassert clamp(5, 0, 9) == 5": "import",
    "import os\nassert clamp(5, 0, 9) == 5\nos._exit(0)": "evaded",
    "x = 3\nassert x == 3": "never calls it",
    "def test(x):\n    assert clamp(x, 0, 9) == 5": "never calls it",
}  # fmt: skip


def test_suites_that_are_worth_nothing_are_named_for_what_they_are():
    grades, figures = graded(*CHEATS)
    assert {answer: grade.verdict for answer, grade in zip(CHEATS, grades, strict=True)} == CHEATS
    assert {grade.score for grade in grades} == {0}
    assert set(values(figures[unit_tests.RIGHT])) == {0}
    assert Counter(row.outcome for row in figures[unit_tests.PARSES]) == {"passed": len(CHEATS) - 1, "syntax": 1}
    wrong = list(CHEATS).index("assert clamp(5, 0, 9) == 6")
    assert values(figures[unit_tests.LINES])[wrong] == 0.6  # what a suite reaches does not hang on what it expects


@pytest.mark.parametrize(
    "suite",
    [
        f"def test_all():\n    {GOOD.replace(chr(10), chr(10) + '    ')}",
        f"class TestClamp:\n    def test_all(self):\n        {GOOD.replace(chr(10), chr(10) + '        ')}",
        "import unittest\n\nclass Clamp(unittest.TestCase):\n    '''Two\n\n    lines.'''\n\n    def test_low(self):\n"
        "        self.assertEqual(clamp(-1, 0, 9), 0)\n\nif __name__ == '__main__':\n    unittest.main()",
        "from solution import clamp\ntry:\n    clamp('a', 0, 9)\nexcept TypeError:\n    pass\nelse:\n    raise AssertionError('no error')\nassert clamp(-1, 0, 9) == 0",
        "low = 3\nassert clamp(1, low, 9) == low",
    ],
)  # fmt: skip
def test_tests_are_run_in_whatever_shape_they_come(suite):
    (grade,), figures = graded(suite)
    assert (grade.verdict, values(figures[unit_tests.RIGHT])) == ("passed", [1])
    assert grade.score > 0


def test_a_failed_test_does_not_end_what_the_others_reach():
    _, figures = graded(
        "assert clamp(5, 0, 9) == 6\nassert clamp(-1, 0, 9) == 0\ndef test_high():\n    assert clamp(10, 0, 9) == 9"
    )
    assert values(figures[unit_tests.LINES]) == [1]


def test_a_name_that_the_function_reads_belongs_to_it():
    program = "FACTOR = 2\ndef scale(x):\n    return int(x) * FACTOR\n"
    for text, fault in {
        "FACTOR = 3\nassert scale(1) == 3": suites.EDITS,
        "def test():\n    global FACTOR\n    FACTOR = 3\n    assert scale(1) == 3\ntest()": suites.EDITS,
        "int = float\nassert scale(1) == 2": suites.EDITS,
        "globals().update(FACTOR=3)\nassert scale(1) == 3": suites.EDITS,
        "def test():\n    scale = abs\n    assert scale(-1) == 1": suites.EDITS,
        "import math\nx = 1\nassert scale(x) == 2": "",
        "def test():\n    int = 3\n    assert scale(int) == 6": "",
    }.items():
        assert suites.read(text, "scale", program).fault == fault, text


def test_marks_change_no_result_and_count_what_runs():
    program = (
        "def pick(values, limit=2):\n    '''Doc.'''\n    found = [v for v in values if v]\n    for v in found:\n        if v > limit:\n"
        "            break\n    else:\n        return None\n    while (v := v - 1) > 0:\n        limit += 1\n    return v if v else limit\n"
    )
    one, plain, names = marked(program), {}, {}
    exec(program, plain)
    exec(PRELUDE, names)
    exec(one.source, names)
    assert len(one.lines) == 8
    assert len(one.branches) == 10
    for values_ in ([], [1, 0], [3], [0, 5, 1]):
        assert names["pick"](values_) == plain["pick"](values_)
    seen = names[SEEN]
    assert {place for place, outcome in seen if outcome is None} == one.lines
    assert one.branches - seen == {(-5, True)}  # what `while` leaves is 0


def test_a_condition_that_is_none_is_an_outcome():
    one, names = (
        marked("def last(node):\n    while node:\n        node = node.get('next')\n    return 1 if node else 2\n"),
        {},
    )
    exec(PRELUDE, names)
    exec(one.source, names)
    assert names["last"]({"next": {"value": 1}}) == 2
    assert one.branches - names[SEEN] == {(-2, True)}


@pytest.mark.parametrize(
    ("values_", "reason"),
    [
        ({}, "no program"),
        ({"program": "def f(:"}, "no program"),
        ({"program": "x = 3"}, "no function"),
        ({"program": "def f(): pass", "entry": "g"}, "no function"),
    ],
)
def test_a_row_without_a_function_does_not_fit(values_, reason):
    unfit = registry.tests(registry.parse("unit_tests"), Row("", "", values_))
    assert isinstance(unfit, Unfit)
    assert unfit.reason == reason


def test_without_settings_and_without_a_sandbox_no_suite_is_written(tiny):
    tokenizer = checkpoints.load_tokenizer(tiny)
    unset, set_ = (
        problem_sets([problem()], tokenizer, EvaluateConfig(tests=tests))[-1] for tests in (None, SuitesConfig())
    )
    assert unset.reason_not_run(2) == "evaluate.tests is not set"
    assert set_.reason_not_run(2) is None
    assert "no sandbox" in set_.reason_not_run(1)


def test_the_stage_records_every_measure_with_its_interval_and_counts_the_outcomes(tmp_path):
    config = EvaluateConfig(tests=SuitesConfig(mutants=4))
    problems = ProblemSet(unit_tests.NAME, [problem(number) for number in range(4)], check=unit_tests.UnitTests())
    answers = [
        Response(block(text), ended)
        for text, ended in ((GOOD, True), (HALF, True), (VACUOUS, True), ("assert clamp(", False))
    ]
    model = SimpleNamespace(respond=lambda *_: answers)
    rows = stage._solve(problems, model, config, ScratchRun(tmp_path))
    figures = summarise.summarise(rows, [(problems, None)], config)["answers"]
    assert list(figures) == ["unit_tests score", *unit_tests.UnitTests.beside]
    assert figures["unit_tests score"]["outcomes"] == {"passed": 2, "notices nothing": 1, "truncated": 1}
    assert figures["unit_tests parse"]["all"] == statistics.proportion(3, 4).record()
    assert figures["unit_tests right"]["all"] == statistics.proportion(3, 4).record()
    score = figures["unit_tests score"]["all"]
    assert score["value"] == pytest.approx(sum(row.value for row in rows[:4]) / 4, abs=1e-6)
    assert score["low"] < score["value"] < score["high"]
    assert rows[0].expected == CLAMP
    assert rows[0].parsed == GOOD
