"""A process of a sandbox answers call after call, with an installed package at hand; a call that breaks it costs that process alone."""

import contextlib
import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tasks.io.sandbox import Failed, Judge, Level, Limits, judge, pool
from tasks.io.sandbox.process import Sandbox
from tests.io.sandbox.support import descendants, require

LIMITS = Limits(wall_s=1.0, cpu_s=60)
PROGRAM = """
import tabulate
calls = []

def prepare():
    calls.clear()

def count():
    calls.append(1)
    return len(calls)
"""


@pytest.fixture
def counting():
    with_package = Judge(PROGRAM, "tabulate", LIMITS)
    yield with_package
    with_package.close()


def test_one_process_answers_all_calls_and_is_prepared_once(counting):
    assert [counting.ask("count()", "prepare()") for _ in range(3)] == [1, 2, 3]
    assert counting.ask("tabulate.tabulate([[1]], tablefmt='plain')", "prepare()") == "1"


@pytest.mark.parametrize("call", ["9**9**9**9", "1 / 0", "__import__('os')._exit(0)", "[0] * 10**10"])
def test_a_call_that_breaks_the_process_fails_in_time_and_the_next_has_a_new_one(call, counting):
    assert counting.ask("count()", "prepare()") == 1
    start = time.monotonic()
    with pytest.raises(Failed):
        counting.ask(call, "prepare()")
    assert time.monotonic() - start < 3 * LIMITS.wall_s
    assert counting.ask("count()", "prepare()") == 1


def test_every_call_has_its_own_time(counting):
    for _ in range(3):
        counting.ask("__import__('time').sleep(0.5)", "prepare()")
    assert counting.ask("count()", "prepare()") == 1


def test_threads_wait_for_each_other(counting):
    with ThreadPoolExecutor(4) as threads:
        counted = threads.map(lambda _: counting.ask("count()", "prepare()"), range(40))
    assert sorted(counted) == list(range(1, 41))


@pytest.mark.parametrize("first", [0, -1], ids=["sandbox", "process"])
@pytest.mark.parametrize("before", ["prepare()", "tabulate.__version__"])
def test_what_is_killed_between_two_calls_is_replaced_and_costs_the_next_nothing(first, before, counting):
    assert counting.ask("count()", "prepare()") == 1
    for process in sorted(descendants(counting.sandbox.process.pid))[first:]:
        with contextlib.suppress(ProcessLookupError):  # it ends with the one before
            os.kill(process, signal.SIGKILL)
    assert counting.ask("count()", before) == 1
    assert counting.ask("count()", before) == 2


def test_a_call_that_kills_its_process_does_so_twice_and_no_more(counting):
    with pytest.raises(Failed, match="SIGKILL"):
        counting.ask("__import__('os').kill(__import__('os').getpid(), 9)", "prepare()")
    assert counting.ask("count()", "prepare()") == 1


def test_what_is_killed_whenever_it_prepares_is_no_wrong_answer(counting):
    with pytest.raises(RuntimeError, match=r"kill.* fails in the sandbox: ended by SIGKILL"):
        counting.ask("count()", "__import__('os').kill(__import__('os').getpid(), 9)")


def test_a_process_that_cannot_be_prepared_is_no_wrong_answer(counting):
    with pytest.raises(RuntimeError, match=r"missing.* fails in the sandbox: NameError"):
        counting.ask("count()", "missing()")
    assert counting.ask("count()", "prepare()") == 1


def test_a_package_that_is_not_installed_does_not_start(monkeypatch):
    monkeypatch.setattr(pool, "PAUSES_S", (0.0,))
    with pytest.raises(RuntimeError, match="No module named 'no_such_package'"):
        Judge("", "no-such-package", LIMITS).ask("1", "2")


@pytest.mark.parametrize("name", ["namespaces", "bubblewrap"])
def test_the_named_package_is_there_to_read_and_no_other(name, tmp_path):
    require(name)
    with_package = Judge(PROGRAM, "tabulate", LIMITS)
    with_package.name = name
    try:
        seen = with_package.ask(
            "[bool(__import__('importlib.util').util.find_spec(name)) for name in ('tabulate', 'pydantic', 'tasks')]",
            "prepare()",
        )
        assert seen == [True, False, False]
        for call in ("open(tabulate.__file__, 'a')", f"open({str(tmp_path / 'made')!r}, 'w')"):
            with pytest.raises(Failed):
                with_package.ask(call, "prepare()")
    finally:
        with_package.close()
    assert not list(tmp_path.iterdir())


def test_programs_of_models_see_no_package():
    with Sandbox(pool.isolation(2), LIMITS) as sandbox, sandbox.program() as program:
        assert "ModuleNotFoundError" in program.execute("import tabulate", "exec", "x").error


def test_where_nothing_isolates_it_says_so(monkeypatch):
    monkeypatch.setattr(judge, "probe", lambda: Level(1, "limits"))
    weak = Judge(PROGRAM, "tabulate", LIMITS)
    try:
        assert not weak.isolated
        assert weak.ask("count()", "prepare()") == 1
    finally:
        weak.close()
