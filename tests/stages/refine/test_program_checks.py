"""Proposals are judged by all their runs: the program passes each time, and no wrong program does."""

from dataclasses import replace

import pytest

from tasks.core.records import Tests
from tasks.io.sandbox import Verdict
from tasks.stages.refine.acceptance.program_checks import check_programs
from tasks.stages.refine.proposals import Job, Proposal
from tests import tiny


def verdict(kind):
    return Verdict(kind, 1, "" if kind == "passed" else "f(1): expected '2', got '3'")


def checked(kinds, wrong_programs=()):
    """What is said of a proposal whose runs, first of the program and then of wrong ones, end in these kinds of verdicts."""
    code = "```python\ndef f(x):\n    return x + 1\n```"
    example = tiny.example(1, response=code, task="function", tests=Tests("doctest", ">>> f(1)\n2\n", "f"))
    proposal = Proposal(example, Job(example, "improve"), "rules", (example.id,), wrong_programs=wrong_programs)
    cases = []

    def run(given):
        cases.extend(given)
        return map(verdict, kinds)

    (unfit,) = check_programs([proposal], run, lambda example: 1.0)
    assert len(cases) == len(kinds)
    return unfit and unfit.reason


@pytest.mark.parametrize(
    ("kinds", "reason"),
    [
        (["passed", "passed"], None),
        (["passed", "assertion"], "flaky tests"),
        (["exception", "passed"], "flaky tests"),
        (["assertion", "assertion"], "fails its tests"),
    ],
)
def test_a_program_passes_its_tests_every_time_or_is_not_taken(kinds, reason):
    assert checked(kinds) == reason


def test_a_program_without_tests_or_without_a_sandbox_is_not_taken():
    example = tiny.example(1, response="```python\ndef f(x):\n    return x + 1\n```", task="function")
    tested = replace(example, tests=Tests("doctest", ">>> f(1)\n2\n", "f"))
    proposals = [Proposal(row, Job(row, "improve"), "rules", (row.id,)) for row in (example, tested)]
    untested, without_sandbox = check_programs(proposals, None, lambda example: 1.0)
    assert (untested.reason, without_sandbox.reason) == ("no tests", "no sandbox")


@pytest.mark.parametrize(("of_wrong", "reason"), [("assertion", None), ("passed", "tests tell nothing")])
def test_tests_that_let_a_wrong_program_pass_tell_nothing(of_wrong, reason):
    wrong = ("def f(x):\n    return None", "def f(x):\n    return x")
    assert checked(["passed", "passed", "assertion", of_wrong], wrong) == reason
