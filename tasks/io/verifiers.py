"""Verifiers of answers that are not programs: those of reasoning-gym, and the checks of sources.

Those of reasoning-gym run in the sandbox, because some evaluate the answer. One process serves a whole stage, because its import takes seconds.
"""

import atexit
import os
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from tasks.core.answers import registry
from tasks.core.answers.base import PASSED, WRONG, Grade
from tasks.core.records import Tests
from tasks.core.text.reasoning import answer_of
from tasks.io import gym_verifier, sandbox
from tasks.io.sandbox import Failed, Judge, Limits
from tasks.io.sources import gym
from tasks.io.system import packages

LIMITS = Limits(wall_s=10.0, cpu_s=86400.0, memory_mb=2048)
"""Limits of an answer. Time is wall-clock time, because the process serves many answers, and most verifiers take microseconds."""
TRIED = "0"
"""An answer that shows if a verifier evaluates answers. A right answer may be compared as text first."""


class Unisolated(RuntimeError):
    """Raised for an answer that would be evaluated without isolation."""


def grade(tests: Tests, answer: str) -> Grade:
    """Return the grade of an answer, ignoring reasoning before it. Raises ValueError if only a judge can grade it."""
    answer = answer_of(answer)
    if tests.kind == "answer":
        right = judged(tests, answer) >= 1
        return Grade(float(right), PASSED if right else WRONG)
    check, expected = registry.of(tests)
    return check.grade(answer, expected)


def judged(tests: Tests, answer: str) -> float:
    """Return the score by the verifier of a generated task: 1 if right, and 0 for an answer that ends its process or takes too long.

    Raises Unisolated if the answer would be evaluated and the machine has no sandbox for programs of models.
    """
    judge, arguments = _judge(os.getpid()), f"{tests.code!r}, {tests.prelude!r}"
    call = f"judged({arguments}, {tests.entry!r}, {answer!r}, {judge.isolated})"
    try:
        score = judge.ask(call, before=f"load({arguments})")
    except Failed:
        return 0.0
    if score is None:
        why = f"no sandbox on this machine, and the verifier of {tests.code} evaluates answers"
        raise Unisolated(f"{why} (`ratchet doctor` says what is needed)")
    return float(score)


def reason_not_judged(tests: Iterable[Tests]) -> str | None:
    """Return the reason why answers to some of these tasks cannot be judged on this machine, to be reported before any is generated; else None."""
    kinds = {(each.code, each.prelude): each for each in tests if each.kind == "answer"}
    if kinds and sandbox.probe().number < 2:
        for each in kinds.values():
            try:
                judged(each, TRIED)
            except Unisolated as reason:
                return str(reason)
    return None


@cache
def _judge(process: int) -> Judge:
    """Return the judge of this process. A forked process needs its own. Raises ValueError if reasoning-gym is not installed."""
    packages.version("reasoning-gym", gym.KEY)
    judge = Judge(Path(gym_verifier.__file__).read_text(encoding="utf-8"), "reasoning-gym", LIMITS)
    atexit.register(judge.close)
    return judge


def decides(tests: Tests) -> bool:
    """Return True if these tests, which are not of a program, decide that an answer is right or wrong, without a judge or a similarity score."""
    return tests.kind == "answer" or not registry.of(tests)[0].graded


def acceptance(tests: Tests, answer: str) -> float:
    """Return 1 if an answer may replace the one in the data, less if not. Similarity scores refuse no answer."""
    if tests.kind == "check" and registry.of(tests)[0].graded:
        return 1.0
    return grade(tests, answer).score
