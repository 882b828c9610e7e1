"""Tests are run from outside, whatever answers: here the program's process is this one, or one that lies."""

import sys

import pytest

from tasks.core.records import Tests
from tasks.io.sandbox.connection import Failed
from tasks.io.sandbox.guest.program import Answer, attempt
from tasks.io.sandbox.run_tests import run_tests

DOUBLE = "def f(x):\n    return 2 * x\n"
RAISES = "class Odd(ValueError): pass\ndef f(x):\n    raise Odd('here')\n"


def here():
    """Return an executor that runs sources in this process, in a namespace of its own."""
    namespace = {"__name__": "solution"}

    def execute(source, mode, name):
        stdout = sys.stdout
        try:
            return attempt(source, mode, name, namespace, 10_000)
        finally:
            sys.stdout = stdout

    return execute


def outcome(program, kind, code, execute=None):
    """Where the expectations are compared, or the kind of failure."""
    try:
        return list(run_tests(program, Tests(kind, code, "f"), execute or here()))
    except Failed as failure:
        return failure.kind


@pytest.mark.parametrize(
    ("program", "code", "expected"),
    [
        (DOUBLE, ">>> f(1)\n2\n>>> f('a')\n'aa'\n", ["outside", "outside"]),
        (DOUBLE, ">>> f(1)\n3\n", "assertion"),
        (DOUBLE, ">>> [1, f(1)]\n[1,\n 2]\n", ["outside"]),  # white space is forgiven
        (DOUBLE, ">>> f([1])  # doctest: -NORMALIZE_WHITESPACE\n[1,  1]\n", "assertion"),
        (DOUBLE, ">>> f(1)  # doctest: +SKIP\n3\n", []),
        (DOUBLE, ">>> y = f(1)\n", []),
        (DOUBLE, ">>> f('a' * 99)  # doctest: +ELLIPSIS\n'aa...a'\n", ["outside"]),
        (DOUBLE, ">>> f('a' * 99)\n'aa...a'\n", "assertion"),
        (DOUBLE, ">>> f(1) == 2\nTrue\n", ["inside"]),
        (RAISES, ">>> f(1)\n2\n", "exception"),
        (RAISES, ">>> f(1)\nTraceback (most recent call last):\nsolution.Odd: here\n", ["outside"]),
        (RAISES, ">>> f(1)\nTraceback (most recent call last):\nsolution.Odd: there\n", "assertion"),
        (RAISES, ">>> f(1)\nTraceback (most recent call last):\nKeyError: 'here'\n", "assertion"),
    ],
)
def test_examples_are_compared_with_what_they_should_print(program, code, expected):
    assert outcome(program, "doctest", code) == expected


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("assert f(2) == 4", ["outside"]),
        ("assert f(2) == 5", "assertion"),
        ("assert not f(2) == 5", ["outside"]),
        ("f(2)", ["inside"]),
        ("for x in [1, 2]: assert f(x) == 2 * x", ["inside"]),
        ("for x in [1, 2]: assert f(x) == 2", "assertion"),
        ("x = f(2)", ["inside"]),  # nothing is compared, and only the program says that it ran
        ("x = f(2)\nassert x == 4", ["outside"]),
        ("f(2)\nassert f(3) == 7\nf(4)", "assertion"),
        ("", []),
    ],
)
def test_a_script_is_asked_for_values_and_its_other_statements_run_to_their_end(code, expected):
    assert outcome(DOUBLE, "script", code) == expected


def always(output="", value=""):
    """Return an executor that reports success, with this output and value, whatever it is sent."""
    return lambda source, mode, name: Answer("", "", "", output, value if mode == "eval" else "")


@pytest.mark.parametrize(
    ("kind", "code", "execute"),
    [
        ("doctest", ">>> f(1)\n2\n", always(output="2\n")),
        ("script", "assert f(1) == 2", always(value='["int", "0x2"]')),
        ("script", "f(1)", always()),
    ],
)
def test_a_process_that_reports_success_whatever_it_is_sent_is_not_believed(kind, code, execute):
    assert outcome(DOUBLE, kind, code, execute) == "evaded"


def test_statements_that_end_without_their_secret_have_not_run():
    def execute(source, mode, name):
        """Answer as a program that jumps over every statement and raises what it is asked to raise at last."""
        return here()(source if source.startswith("raise ") else "", mode, name)

    assert outcome(DOUBLE, "script", "f(1)\nf(2)", execute) == "evaded"
