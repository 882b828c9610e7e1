"""Verifiers of answers that are no programs: those of reasoning-gym, and the checks of sources."""

from tasks.core.answers import registry
from tasks.core.answers.base import PASSED, WRONG, Grade
from tasks.core.records import Tests
from tasks.core.text.reasoning import answer_of
from tasks.io.sources import gym


def grade(tests: Tests, answer: str) -> Grade:
    """Return the grade of an answer, whatever reasoning stands before it. Raises ValueError if only a judge can grade it."""
    answer = answer_of(answer)
    if tests.kind == "answer":
        right = gym.score(tests, answer) >= 1
        return Grade(float(right), PASSED if right else WRONG)
    check, expected = registry.of(tests)
    return check.grade(answer, expected)


def decides(tests: Tests) -> bool:
    """Return True if an answer is right or wrong by these tests of no program: not by a judge, nor by a score of likeness."""
    return tests.kind == "answer" or not registry.of(tests)[0].graded


def acceptance(tests: Tests, answer: str) -> float:
    """Return 1 if an answer may stand in place of the one in the data, less if not. Scores that measure likeness refuse none."""
    if tests.kind == "check" and registry.of(tests)[0].graded:
        return 1.0
    return grade(tests, answer).score
