"""The questions of profile telecom-qlora are those that its script makes, and each answer is the one that its explanation comes to."""

import random
import re
import sys
from pathlib import Path

import pytest

from tasks.core.answers import registry
from tasks.core.answers.base import Row
from tasks.stages.evaluate.checks.judging import likeness

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    monkeypatch.delitem(sys.modules, "telecom_questions", raising=False)
    import telecom_questions

    return telecom_questions


def test_the_files_are_what_the_script_writes(script):
    for name, text in script.files().items():
        assert (ROOT / "params/telecom-data" / name).read_text(encoding="utf-8") == text


def test_an_explanation_comes_to_the_figure_and_another_ones_does_not_pass_for_it(script):
    check = registry.parse("number")
    for use_case, make in script.USE_CASES.items():
        made = [make(random.Random(seed)) for seed in range(20)]
        for question, figure, words in made:
            expected = check.expect(Row(question, figure))
            assert figure in re.findall(r"-?\d+", words), use_case
            assert check.grade(figure, expected).score == 1
        first, other = made[0][2], next(words for _, figure, words in made if figure != made[0][1])
        assert likeness(first, first) == 1 > likeness(other, first)


def test_no_network_is_in_both_files(script):
    networks = [
        {row["document"] for row in rows} for rows in (script.rows(range(9), False), script.rows(range(9, 12), True))
    ]
    assert len(networks[0]) == 9
    assert not networks[0] & networks[1]
