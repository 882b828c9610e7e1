"""Every way in which a program can end has its own kind of verdict."""

import subprocess
import sys
from dataclasses import replace

import pytest

from tasks.core import records
from tasks.io.sandbox import Case, Limits
from tests.io.sandbox.support import examples, script, verdict, verdicts

DOUBLE = "def f(x):\n    return 2 * x\n"
CASES = {
    "right script": (script(DOUBLE, "assert f(2) == 4"), "passed", 1),
    "right examples": (examples(DOUBLE, ">>> f(1)\n2\n>>> f('a')\n'aa'\n"), "passed", 2),
    "wrong script": (script(DOUBLE, "assert f(2) == 5"), "assertion", 0),
    "wrong example": (examples(DOUBLE, ">>> f(1)\n2\n>>> f(2)\n5\n>>> f(3)\n6\n"), "assertion", 2),
    "silent where it should print": (examples("def f(x): pass", ">>> f(1)\n2\n"), "assertion", 1),
    "prints where it should not": (examples("def f(x): print(x)", ">>> f(1)\n"), "assertion", 0),
    "raises in the tests": (script("def f(x): return 1 / 0", "f(1)"), "exception", 0),
    "raises in an example": (examples("def f(x): return [][x]", ">>> f(1)\n2\n"), "exception", 1),
    "raises at once": (script("1 / 0", "pass"), "exception", 0),
    "lacks the name": (script("x = 1", "f(1)"), "exception", 0),
    "recurses for ever": (script("def f(x): return f(x)", "f(1)"), "exception", 0),
    "is no Python": (script("def f(x:", "pass"), "syntax", 0),
    "holds a null byte": (script("x = 1\0", "pass"), "syntax", 0),
    "holds half a character": (script("x = '\ud800'", "pass"), "syntax", 0),
    "is tested with half a character": (script(DOUBLE, "assert f('\ud800') == 1"), "exception", 0),
    "is tested with half a character in an example": (examples(DOUBLE, ">>> f('\ud800')\n1\n"), "exception", 1),
    "should print half a character": (examples(DOUBLE, ">>> f('a')\n'\ud800'\n"), "assertion", 1),
    "returns half a character": (script("def f(): return chr(0xd800)", "assert f() == '\\ud800'"), "passed", 1),
    "is tested with a null byte": (script(DOUBLE, "assert f(1) == 2\0"), "exception", 0),
    "deletes every file": (
        script("import shutil\nshutil.rmtree('/', ignore_errors=True)\ndef f(x): return x", "assert f(1) == 2"),
        "assertion",
        0,
    ),
    "deletes its tests by name": (
        script(
            "def f(x): return globals().pop('check', x)",
            "def check():\n    assert f(1) == 1\n    for x in [1]: assert f(x) == 2\ncheck()",
        ),
        "assertion",
        0,
    ),
    "forgets everything when called": (
        script("def f(x): globals().clear()", "assert f(1) == 2\nassert f(2) == 4"),
        "assertion",
        0,
    ),
    "empties every dictionary when called": (
        script(
            "import gc, types\ndef f(x):\n    for o in gc.get_objects():\n        if isinstance(o, dict): o.clear()",
            "assert f(1) == 2",
        ),
        "assertion",
        0,
    ),
    "nests too deeply": (script("(" * 5000 + ")" * 5000, "pass"), "syntax", 0),
    "lacks a package": (script("import pydantic", "pass"), "import", 0),
    "lacks this package": (script("import tasks", "pass"), "import", 0),
    "lacks a package when called": (examples("def f():\n    import numpy", ">>> f()\n1\n"), "import", 1),
    "loops at once": (script("while True: pass", "pass"), "timeout", 0),
    "loops in the tests": (script("def f():\n    while True: pass", "f()"), "timeout", 0),
    "sleeps": (script("import time\ntime.sleep(60)", "pass"), "timeout", 0),
    "allocates too much": (script("x = bytearray(10 << 30)", "pass"), "memory", 0),
    "grows too much": (script("x = []\nwhile True: x.append(bytes(1 << 20))", "pass"), "memory", 0),
    "crashes the interpreter": (script("import ctypes\nctypes.string_at(1)", "pass"), "killed", 0),
    "prints too much": (script("while True: print('x' * 1000)", "pass"), "killed", 0),
    "ends its process": (script("import os\nos._exit(0)", "pass"), "evaded", 0),
    "ends its process when called": (examples("import os\ndef f(): os._exit(1)", ">>> f()\n1\n"), "evaded", 0),
    "has no tests": (script(DOUBLE, "# none\n"), "untested", 0),
    "has no examples": (examples(DOUBLE, "Doubles."), "untested", 0),
    "has skipped examples only": (examples(DOUBLE, ">>> f(1)  # doctest: +SKIP\n3\n"), "untested", 0),
    "has examples without results": (examples(DOUBLE, ">>> y = f(1)\n"), "untested", 0),
    "has examples that cannot be read": (examples(DOUBLE, ">>> f(1)\n  2\n >>>f(1)\n"), "untested", 0),
}


@pytest.fixture(scope="module")
def judged():
    results = verdicts(*(case for case, _, _ in CASES.values()), workers=2)
    return dict(zip(CASES, results, strict=True))


@pytest.mark.parametrize("name", CASES)
def test_a_program_that(name, judged):
    _, kind, executed = CASES[name]
    assert (judged[name].kind, judged[name].executed) == (kind, executed), judged[name]


def test_the_detail_is_the_last_line_of_what_went_wrong():
    details = [
        result.detail
        for result in verdicts(
            examples(DOUBLE, ">>> f(1)\n3\n"),
            script("def f():\n    raise ValueError('first\\nlast')", "f()"),
            script("def f(x:", "pass"),
            script("import pydantic", "pass"),
            script("raise ValueError('x' * 1000)", "pass"),
            script(DOUBLE, "assert f(1) == 2"),
        )
    ]
    assert details[0] == "f(1): expected '3', got '2'"
    assert details[1] == "last"
    assert details[2].startswith("SyntaxError: ")
    assert details[3] == "ModuleNotFoundError: No module named 'pydantic'"
    assert len(details[4]) == 300
    assert details[5] == ""


def test_details_repeat():
    cases = [
        script("class A: pass\ndef f(): raise ValueError(A())", "f()"),
        script("class A: pass\nraise ValueError(id(A()))", "pass"),
        script("open('missing')", "pass"),
        script("import os\nraise ValueError(os.path.abspath('here'))", "pass"),
        script("raise ValueError({'a', 'b', 'c', 'd'}, hash('text'))", "pass"),
        script("import random\nraise ValueError(random.random())", "pass"),
        script("import time\nraise ValueError(time.tzname)", "pass"),
        script("while True: pass", "pass"),
    ]
    assert verdicts(*cases) == verdicts(*reversed(cases), workers=2)[::-1]


def test_the_environment_is_its_own_and_the_same_everywhere(monkeypatch):
    program = "import os, time\ndef facts(): return time.tzname, os.environ['LC_ALL'], hash('text')"
    command = [sys.executable, "-c", "print(hash('text'))"]
    seeded = int(subprocess.check_output(command, env={"PYTHONHASHSEED": "0"}))
    for name, foreign in (("TZ", "Asia/Tokyo"), ("LC_ALL", "de_DE"), ("PYTHONHASHSEED", "7")):
        monkeypatch.setenv(name, foreign)
    assert verdict(script(program, f"assert facts() == (('UTC', 'UTC'), 'C.UTF-8', {seeded})")).detail == ""


def test_doctest_options_are_those_of_the_source():
    program = "def f(x): return x\nclass Odd(ValueError): pass\ndef g(): raise Odd('here')"
    results = verdicts(
        examples(program, ">>> f([1,2])  # white space is forgiven\n[1,\n 2]\n"),
        examples(program, ">>> f('a' * 99)  # doctest: +ELLIPSIS\n'aa...a'\n"),
        examples(program, ">>> f('a' * 99)\n'aa...a'\n"),
        examples(program, ">>> f('a\\n\\nb') and print('a\\n\\nb')\na\n<BLANKLINE>\nb\n"),
        examples(program, ">>> g()\nTraceback (most recent call last):\n    ...\nsolution.Odd: here\n"),
        examples(program, ">>> g()\nTraceback (most recent call last):\nsolution.Odd: there\n"),
        examples(program, ">>> g()  # doctest: +IGNORE_EXCEPTION_DETAIL\nTraceback (most recent call last):\nOdd: x\n"),
        examples(program, ">>> f(1)\nTraceback (most recent call last):\nValueError: x\n"),
        examples(program, ">>> eval('1 +')\nTraceback (most recent call last):\nSyntaxError: invalid syntax\n"),
        examples(program, ">>> for i in range(2):\n...     print(i)\n0\n1\n>>> f(7)\n7\n>>> _ + 1\n8\n"),
    )
    assert [result.kind for result in results] == (
        ["passed", "passed", "assertion", "passed", "passed", "assertion", "passed", "assertion", "passed", "passed"]
    )


def test_the_prelude_runs_first_in_the_same_namespace():
    assert (
        verdict(script("def f(): return sqrt(y)", "assert f() == 3", prelude="from math import sqrt\ny = 9")).kind
        == "passed"
    )


def test_a_program_is_the_module_solution():
    program = """
from __future__ import annotations
import pickle, sys
from dataclasses import dataclass

@dataclass
class Point:
    x: Unknown

assert __name__ == Point.__module__ == "solution" and sys.modules["solution"].Point is Point
"""
    tests = "assert pickle.loads(pickle.dumps(Point(1))) == Point(1)\ndef g(x: Undefined): pass"
    assert verdict(script(program, tests)).kind == "passed"


def test_what_the_standard_library_offers_works():
    program = """
import asyncio, bz2, ctypes, decimal, hashlib, json, lzma, sqlite3, ssl, subprocess, tempfile, threading, zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

async def one(): return 1

def f():
    assert asyncio.run(one()) == 1
    assert list(ThreadPoolExecutor(3).map(abs, [-1, -2])) == [1, 2]
    assert sqlite3.connect(":memory:").execute("select 1").fetchone() == (1,)
    assert lzma.decompress(lzma.compress(b"x")) == bz2.decompress(bz2.compress(b"x")) == b"x"
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "a").write_text("b")
    Path("here").write_text(str(decimal.Decimal("0.1")))
    return Path("here").read_text()
"""
    assert verdict(examples(program, ">>> f()\n'0.1'\n")).kind == "passed"


PATIENT = Limits(wall_s=60, cpu_s=60)
"""Limits that a machine with other work keeps too."""


def test_limits_are_the_callers():
    program = script("x = bytearray(300 << 20)\nopen('big', 'wb').write(bytes(2 << 20))", "pass")
    assert verdict(program, PATIENT).kind == "passed"
    assert verdict(program, replace(PATIENT, memory_mb=256)).kind == "memory"
    assert verdict(program, replace(PATIENT, file_bytes=1 << 20)).kind == "exception"
    assert verdict(script("print('x' * 100)", "pass"), Limits(output_bytes=99)).kind == "killed"
    assert verdict(script("import time\ntime.sleep(1)", "pass"), Limits(wall_s=0.3)).kind == "timeout"


HOG = """
import mmap, os, time
def hold(processes, megabytes, kind, seconds):
    reader, writer = os.pipe()
    first = all(os.fork() for _ in range(processes - 1))
    shared = mmap.mmap(-1, megabytes << 20, kind)
    for start in range(0, megabytes << 20, 4096):
        shared[start] = 1
    os.write(writer, b"!")
    if not first: time.sleep(60)
    for _ in range(processes): os.read(reader, 1)
    time.sleep(seconds)
"""


@pytest.mark.parametrize("kind", ["mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS", "mmap.MAP_SHARED | mmap.MAP_ANONYMOUS"])
def test_processes_share_one_limit_on_memory(kind):
    within, beyond = verdicts(
        script(HOG, f"hold(4, 20, {kind}, 0.3)\nassert True"),
        script(HOG, f"hold(4, 80, {kind}, 10)\nassert True"),
        limits=replace(PATIENT, memory_mb=256),
    )
    assert within.kind == "passed"
    assert (beyond.kind, beyond.detail) == ("memory", "its processes held more than 256 MB together")


def test_processes_cannot_hide_their_memory():
    hidden = "import ctypes\nctypes.CDLL(None).prctl(4, 0, 0, 0, 0)  # not dumpable\n" + HOG
    hold = "hold(4, 80, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, 10)\nassert True"
    assert verdict(script(hidden, hold), replace(PATIENT, memory_mb=256)).kind == "memory"


def test_memory_that_processes_share_counts_once():
    program = "import os, time\nheld = b'x' * (100 << 20)\nfor _ in range(6):\n    if not os.fork(): time.sleep(60)\ntime.sleep(0.5)"
    assert verdict(script(program, "assert True"), Limits(memory_mb=256)).kind == "passed"


def test_tests_of_another_kind_are_refused():
    with pytest.raises(ValueError, match="of kind answer"):
        Case("x = 1", records.Tests("answer", "gsm", "{}"))


def test_a_hundred_thousand_lines_are_a_program_too():
    program = "def f():\n" + "    x = 1\n" * 100_000 + "    return x\n"
    assert verdict(script(program, "assert f() == 1"), Limits(wall_s=10, cpu_s=10)).kind == "passed"
