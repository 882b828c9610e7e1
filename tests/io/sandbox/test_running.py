"""Many cases: in order, lazily, and with nothing left behind."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from itertools import count
from pathlib import Path

import pytest

from tasks.core.records import Tests
from tasks.io.sandbox import Case, Limits, Verdict, outputs, pool, probe, run
from tasks.io.sandbox.pool import AHEAD
from tasks.io.sandbox.probes import prove
from tasks.io.sandbox.process import Sandbox
from tests.io.sandbox.support import QUICK, descendants, is_running, require, script, verdicts

ROOT = Path(__file__).parents[3]
SHORT = Limits(wall_s=0.5)
LEFTOVERS = {
    "a fork bomb": "import os\nwhile True:\n    try: os.fork()\n    except OSError: pass",
    "an infinite loop": "while True: pass",
    "a daemon": """
import os, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        while True: time.sleep(1)
    os._exit(0)
""",
    "a process that ignores signals": """
import os, signal, time
if os.fork() == 0:
    for number in set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP}: signal.signal(number, signal.SIG_IGN)
    time.sleep(60)
""",
    "a stopped process": "import os, signal\nif os.fork() == 0: os.kill(os.getpid(), signal.SIGSTOP)",
    "a thread": "import threading, time\nthreading.Thread(target=time.sleep, args=(60,)).start()",
    "a child that keeps the pipes": "import os, time\nif os.fork() == 0: time.sleep(60)\nos._exit(0)",
}


@pytest.mark.parametrize(
    ("name", "leftover"),
    [(name, leftover) for name in ("namespaces", "bubblewrap") for leftover in LEFTOVERS]
    # level 1 cannot hold a fork bomb; it is for trusted programs
    + [("limits", leftover) for leftover in LEFTOVERS if leftover != "a fork bomb"],
)
def test_no_process_is_left_by(leftover, name):
    others = descendants(os.getpid())  # servers of other tests
    with Sandbox(require(name), SHORT) as sandbox:
        assert sandbox.judge(script("x = 1", "assert x")) == Verdict("passed", 1, "")
        before = descendants(os.getpid())
        for _ in range(2):
            sandbox.judge(script(LEFTOVERS[leftover], "pass"))
            assert descendants(os.getpid()) == before
    assert set(descendants(os.getpid())) <= set(others)
    assert not any(map(is_running, set(before) - set(others)))


def test_no_process_is_left_when_the_caller_is_killed():
    code = (
        "from tasks.io.sandbox import Limits\n"
        "from tests.io.sandbox.support import script, verdicts\n"
        "verdicts(*[script('import os\\nos.fork()\\nwhile True: pass', 'pass')] * 4, workers=2, limits=Limits(60, 60))"
    )
    caller = subprocess.Popen([sys.executable, "-c", code], env=os.environ | {"PYTHONPATH": str(ROOT)})
    try:
        await_that(lambda: len(descendants(caller.pid)) >= 8)
        family = descendants(caller.pid)
    finally:
        caller.kill()
        caller.wait()
    await_that(lambda: not any(map(is_running, family)))


def test_an_unfinished_run_ends_its_sandboxes():
    others = set(descendants(os.getpid()))
    stream = run([script("x = 1", "assert x")] * 50, limits=QUICK)
    assert next(stream).kind == "passed"
    assert set(descendants(os.getpid())) - others
    stream.close()
    await_that(lambda: not set(descendants(os.getpid())) - others)


GOOD, FATAL = script("x = 1", "assert x"), script("import time\ntime.sleep(60)  # kill me", "pass")


@pytest.fixture
def _fatal(monkeypatch):
    """Ends the sandbox of a program that asks for it."""
    judge = Sandbox.judge

    def judge_and_kill(self, case):
        if "kill me" in case.program:
            self.process.send_signal(signal.SIGTERM)
        return judge(self, case)

    monkeypatch.setattr(Sandbox, "judge", judge_and_kill)


@pytest.mark.usefixtures("_fatal")
def test_a_sandbox_that_dies_costs_one_case():
    assert [result.kind for result in verdicts(GOOD, FATAL, GOOD)] == ["passed", "killed", "passed"]


@pytest.fixture
def refused(monkeypatch):
    """Return a set of starts of a sandbox, counted from 1, that the machine refuses; tests add to it."""
    numbers: set[int] = set()
    starts = count(1)
    start = Sandbox.start

    def start_or_not(self, *arguments):
        if next(starts) in numbers:
            raise BlockingIOError("Resource temporarily unavailable")
        return start(self, *arguments)

    prove(probe().name)  # which starts sandboxes too
    monkeypatch.setattr(Sandbox, "start", start_or_not)
    monkeypatch.setattr(pool, "PAUSES_S", (0, 0, 0))
    return numbers


@pytest.mark.usefixtures("_fatal")
def test_a_sandbox_that_does_not_start_again_at_once_is_tried_again(refused):
    refused |= {2, 3}
    assert [result.kind for result in verdicts(GOOD, FATAL, GOOD)] == ["passed", "killed", "passed"]


@pytest.mark.usefixtures("_fatal")
def test_a_sandbox_that_never_starts_again_ends_the_run_with_the_reason(refused):
    refused |= {2, 3, 4}
    with pytest.raises(
        RuntimeError, match=r"does not start any more, in 3 tries: .*Resource temporarily unavailable.*Free"
    ):
        verdicts(GOOD, FATAL, GOOD)


def test_verdicts_come_in_the_order_of_the_cases():
    cases = [script(f"import time\ntime.sleep({0.1 * (n % 3 == 0)})", f"assert {n} % 4") for n in range(24)]
    results = list(run(iter(cases), limits=QUICK, workers=3))
    assert [result.kind for result in results] == ["passed" if n % 4 else "assertion" for n in range(24)]


def test_cases_are_read_as_verdicts_are_asked_for():
    read = []

    def cases():
        for n in range(100):
            read.append(n)
            yield script("x = 1", "assert x")

    stream = run(cases(), workers=2, limits=QUICK)
    assert read == []
    next(stream)
    assert len(read) <= 2 * AHEAD
    stream.close()


def test_no_cases_no_verdicts():
    assert verdicts() == []


def test_an_error_among_the_cases_reaches_the_caller():
    def cases():
        yield script("x = 1", "assert x")
        raise LookupError("no more")

    with pytest.raises(LookupError, match="no more"):
        list(run(cases(), limits=QUICK))


@pytest.mark.parametrize("name", ["namespaces", "bubblewrap"])
def test_two_hundred_loops_and_fork_bombs_in_a_row_leave_the_sandbox_and_the_machine_as_they_were(
    name, tmp_path, monkeypatch
):
    litter = "import os\nfor n in range(50): open(str(n), 'w').close()\nopen('../beside', 'w').close()\n"
    bombs = [script(litter + end, "pass") for end in ("while True: pass", "while True: os.fork()")]
    facts = script("import os", "assert (os.listdir('..'), os.listdir('.'), os.getpid() > 200) == (['case'], [], True)")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    others = descendants(os.getpid())
    with Sandbox(require(name), Limits(wall_s=0.05)) as sandbox:
        before = descendants(os.getpid())
        kinds = {sandbox.judge(bombs[n % 2]).kind for n in range(200)}
        assert kinds <= {"timeout", "exception", "evaded"}
        assert descendants(os.getpid()) == before
        assert sandbox.judge(facts).detail == ""
    assert descendants(os.getpid()) <= others
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux lets one choose")
def test_where_memory_runs_out_programs_are_the_first_to_go():
    before = descendants(os.getpid())
    with Sandbox(probe().name, QUICK):
        started = descendants(os.getpid()) - before
        assert started
        assert {Path(f"/proc/{process}/oom_score_adj").read_text().strip() for process in started} == {"1000"}


def test_an_answer_of_a_million_empty_fields_holds_nobody_up():
    flood = "import os\nfor fd in range(3, 64):\n    try: os.write(fd, (1 << 21).to_bytes(4, 'big') + bytes(1 << 21))\n    except OSError: pass\nos._exit(0)"
    with Sandbox(probe().name, QUICK) as sandbox:
        start = time.monotonic()
        verdict = sandbox.judge(script(flood))
        assert verdict.kind == "evaded"
        assert time.monotonic() - start < QUICK.wall_s + 1
        assert sandbox.usable


def test_a_long_message_is_cut_and_stays_an_assertion():
    verdict = verdicts(script("message = 'x' * 3_000_000", "assert False, message"))[0]
    assert (verdict.kind, verdict.detail[:20]) == ("assertion", "AssertionError: xxxx")


def await_that(condition, patience=30.0):  # a busy machine takes its time to start a sandbox
    deadline = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_what_examples_print_is_told_whatever_they_should_print():
    code = ">>> x = f(1)\n>>> x\n'wrong'\n>>> f('')\n>>> print(f(2))\n"
    tests = Tests("doctest", code, "f", "ONE = 1")
    endless = Tests("doctest", ">>> f(1)\n", "f")
    results = list(
        outputs([Case("def f(n):\n    return n + ONE", tests), Case("def f(n):\n    while n: pass", endless)])
    )
    assert results[0] == ["", "2\n", None, "3\n"]
    assert results[1].kind == "timeout"
