"""A wrong program cannot pass by tampering with its tests."""

import pytest

from tasks.io.sandbox import probe
from tasks.io.sandbox.process import Sandbox
from tests.io.sandbox.support import QUICK, examples, script, verdict, verdicts

WRONG = "def f(x): return 0\n"
TRICKS = {
    "leaves with status 0": "import os\nos._exit(0)",
    "leaves when called": "import os\ndef f(x): os._exit(0)",
    "exits with status 0": "import sys\nsys.exit(0)",
    "exits when called": "import sys\ndef f(x): sys.exit(0)",
    "replaces itself by a program that succeeds": "import os, sys\nos.execv(sys.executable, ['python', '-c', ''])",
    "closes every descriptor": WRONG + "import os\nos.closerange(0, 64)",
    "closes every descriptor when called": "import os\ndef f(x): os.closerange(0, 64)",
    "points every descriptor elsewhere": WRONG + "import os\nfor d in range(64): os.dup2(os.open('x', 66), d)",
    "prints a verdict": WRONG + """print('{"outcome": "passed", "executed": 1, "detail": ""}')""",
    "writes verdicts to every descriptor": WRONG
    + """
import os
for descriptor in range(64):
    for text in (b'passed', b'{"outcome": "passed", "executed": 1}', bytes(24), bytes([0, 0, 0, 4]) * 9):
        try: os.write(descriptor, text)
        except OSError: pass
""",
    "raises KeyboardInterrupt": "raise KeyboardInterrupt",
    "raises KeyboardInterrupt when called": "def f(x): raise KeyboardInterrupt",
    "raises SystemExit in a thread and a signal": WRONG + "import signal\nsignal.raise_signal(signal.SIGINT)",
    "catches everything": "while True:\n    try:\n        while True: pass\n    except BaseException: pass",
    "catches the clock": "import signal\nsignal.signal(signal.SIGXCPU, lambda *a: None)\nwhile True: pass",
    "replaces doctest's checker": WRONG
    + "import doctest\ndoctest.OutputChecker.check_output = lambda *a: True\ndoctest.DocTestParser.get_examples = lambda *a: []",
    "replaces doctest": WRONG + "import sys, types\nsys.modules['doctest'] = types.ModuleType('doctest')",
    "empties the module table": WRONG + "import sys\nsys.modules.clear()",
    "replaces exec, eval and compile": WRONG
    + "import builtins\nbuiltins.exec = builtins.eval = builtins.compile = lambda *a, **k: None",
    "compiles nothing but what must fail": WRONG
    + """
import builtins
own = compile
builtins.compile = lambda source, *rest: own(source if source.startswith(("raise", "import", "def")) else "", *rest)
""",
    "replaces the exceptions": WRONG
    + "import builtins\nbuiltins.AssertionError = builtins.BaseException = type('E', (Exception,), {})",
    "replaces os.write": WRONG + "import os\nos.write = lambda d, data: len(data)",
    "replaces print and the display": WRONG
    + "import sys, builtins\nbuiltins.print = print\nsys.displayhook = lambda v: None",
    "replaces standard output": WRONG + "import sys, io\nsys.stdout = io.StringIO('2')",
    "traces its caller": WRONG + "import sys\nsys.settrace(lambda *a: None)\nsys._getframe(1).f_locals.clear()",
    "forks and lets both go on": WRONG + "import os\nos.fork()",
    "forks and leaves": WRONG + "import os\nif os.fork(): os._exit(0)",
    "answers from a thread": WRONG
    + """
import os, threading
def shout():
    while True:
        for descriptor in range(3, 16):
            try: os.write(descriptor, bytes(24))
            except OSError: pass
threading.Thread(target=shout, daemon=True).start()
""",
    "returns what equals everything": """
class Equal:
    __eq__ = __ne__ = __lt__ = __gt__ = __sub__ = __abs__ = lambda *a: True
    __hash__ = lambda self: 0
def f(x): return Equal()
""",
    "returns a number that equals everything": """
class Equal(int):
    __eq__ = __lt__ = lambda *a: True
    __hash__ = int.__hash__
def f(x): return Equal(0)
""",
    "makes everything equal": WRONG
    + """
import builtins, operator
builtins.abs = lambda x: 0
builtins.bool = builtins.all = builtins.any = builtins.isinstance = operator.eq = lambda *a: True
builtins.AssertionError = type("E", (Exception,), {})
""",
    "jumps to the last line": WRONG
    + """
import sys
def trace(frame, event, argument):
    if frame.f_code.co_filename == "<tests>" and event == "line":
        frame.f_lineno = max(line for _, _, line in frame.f_code.co_lines() if line)
    return trace
sys.settrace(trace)
""",
    "looks up what its caller expects": """
import sys
def f(x):
    code = sys._getframe(1).f_code
    return next((c for c in reversed(code.co_consts) if type(c) is int), 0)
""",
    "claims success in the protocol's own words": WRONG
    + """
import os, sys
frame = sys._getframe()
while "token" not in frame.f_locals:
    frame = frame.f_back
seen = frame.f_locals
while True:  # success, whatever is asked
    seen["give"](seen["answers"], seen["payload"](seen["fields"](seen["request"])[0], "", "", "", ""))
    seen["request"] = seen["take"](seen["requests"])
""",
}


@pytest.mark.parametrize(
    ("phase", "kind"), [("run", ""), ("compile", ""), ("", "exception"), ("later", "exception"), ("run", "passed")]
)
def test_an_answer_that_no_source_leads_to_is_forged(phase, kind):
    program = TRICKS["claims success in the protocol's own words"].replace(
        '"", "", "", "", ""', f'{phase!r}, {kind!r}, "", "", ""'
    )
    results = verdicts(examples(program, ">>> f(1)\n2\n"), script(program, "assert f(1) == 2"))
    assert [(result.kind, result.detail) for result in results] == [
        ("evaded", "the program answers in place of its tests")
    ] * 2


EQUAL = """
class Equal:
    __eq__ = __call__ = lambda *a: True
    __hash__ = lambda self: hash(2)
    __lt__ = __gt__ = lambda *a: False
    __index__ = lambda self: -1
    __sub__ = lambda *a: 0
    __iter__ = lambda self: iter(())
    __getattr__ = lambda self, name: self
def f(x): return Equal()
"""
PATCHED = WRONG + "import unittest\nunittest.TestCase.assertEqual = lambda *a: None"
RUN = "r = unittest.TextTestRunner(io.StringIO()).run(unittest.defaultTestLoader.loadTestsFromTestCase(T))"
BESIDE = {
    "a runner of tests": (
        PATCHED,
        f"import io, unittest\nclass T(unittest.TestCase):\n    def test(self): self.assertEqual(f(1), 2)\n{RUN}\n"
        "assert r.wasSuccessful()",
    ),
    "a helper": (EQUAL, "def same(a, b): return a == b\nassert same(f(1), 2)"),
    "a helper without a name": (EQUAL, "same = lambda a, b: a == b\nassert same(f(1), 2)"),
    "a helper's result by name": (EQUAL, "def same(a): return a == 2\nr = [same(f(1))]\nassert r == [True]"),
    "a helper that is mapped": (EQUAL, "def ok(x): return f(x) == 2\nassert list(map(ok, [1])) == [True]"),
    "a class of the script": (EQUAL, "class Test:\n    def ok(self): return f(1) == 2\nassert Test().ok()"),
    "a class whose body asserts": (EQUAL, "class Test:\n    assert f(1) == 2"),
    "a decorator": (EQUAL, "@lambda g: g()\ndef test(): assert f(1) == 2"),
    "a default": (EQUAL, "def test(x=[2].index(f(1))): pass"),
    "a name for the outcome": (EQUAL, "ok = f(1) == 2\nassert ok"),
    "a name for a value": (EQUAL, "x = f(1)\nok = 2 == x\nassert ok"),
    "a name that is used again": (EQUAL, "x = f(1)\nx = [x]\nassert [[2]].count(x) == 1"),
    "a list of outcomes": (EQUAL, "r = [f(a) == b for a, b in [(1, 2), (2, 3)]]\nassert r == [True, True]"),
    "a list of outcomes in place": (EQUAL, "assert [f(a) == b for a, b in [(1, 2)]] == [True]"),
    "a count": (EQUAL, "assert [2].count(f(1)) == 1"),
    "an index": (EQUAL, "assert [2, 3].index(f(1)) == 0"),
    "a method of the value": (EQUAL, "assert f(1).startswith(2)"),
    "another method of the value": (EQUAL, "assert f(1).equals(2)"),
    "what it holds": (EQUAL, "assert f(1).holds({2})"),
    "an operator as a method": (EQUAL, "assert f(1).__sub__(2) == 0"),
    "nothing at all": (EQUAL, "x = f(1)\ny = f(x)"),
    "a key": (EQUAL, "assert {2: True}[f(1)]"),
    "a key by get": (EQUAL, "assert {2: True}.get(f(1))"),
    "a set": (EQUAL, "assert len({2, f(1)}) == 1"),
    "an operator": (EQUAL, "import operator\nassert operator.eq(f(1), 2)"),
    "an operator that is mapped": (EQUAL, "import operator\nassert list(map(operator.eq, [f(1)], [2])) == [True]"),
    "a sum of outcomes": (EQUAL, "assert sum(f(a) == b for a, b in [(1, 2), (2, 3)]) == 2"),
    "a length of what is right": (EQUAL, "assert len([1 for x in [1] if f(x) == 2]) == 1"),
    "a difference": (EQUAL, "assert f(1) - 2 == 0"),
    "what comes next, or else": (EQUAL, "assert next(iter(f(1)), 2) == 2"),
    "the lesser": (EQUAL, "assert min(2, f(1)) == 2"),
}
"""Comparisons that are made where the program runs → a wrong program, and the tests that it passes."""


@pytest.mark.parametrize("way", BESIDE)
def test_what_a_program_could_talk_round_is_reported(way):
    result = verdict(script(*BESIDE[way]))
    assert (result.kind, result.inside) == ("passed", True), result


def test_a_docstring_that_compares_is_told_too():
    ways = [">>> f(1) == 2\nTrue\n", ">>> ok = f(1) == 2\n>>> ok\nTrue\n", ">>> [2].count(f(1))\n1\n"]
    assert [(result.kind, result.inside) for result in verdicts(*(examples(EQUAL, way) for way in ways))] == [
        ("passed", True)
    ] * 3


@pytest.fixture(scope="module")
def judged():
    tests = [(examples(program, ">>> f(1)\n2\n"), script(program, "assert f(1) == 2")) for program in TRICKS.values()]
    results = verdicts(*(case for pair in tests for case in pair), workers=2)
    return dict(zip(TRICKS, zip(results[::2], results[1::2], strict=True), strict=True))


@pytest.mark.parametrize("trick", TRICKS)
def test_no_program_passes_that(trick, judged):
    assert not any(result.kind == "passed" for result in judged[trick]), judged[trick]


def test_what_an_example_should_print_is_not_in_reach_of_the_program():
    program = """
import gc, sys
def f(x):
    texts, frame = [], sys._getframe()
    while frame:
        texts += map(repr, frame.f_locals.values())
        frame = frame.f_back
    texts += [repr(o) for o in gc.get_objects() if isinstance(o, (tuple, list, dict)) and len(o) < 50]
    return any("".join(["861", "729"]) in text for text in texts)
"""
    assert (
        verdict(examples(program, ">>> f(1)\nFalse\n>>> 1\n1\n>>> print('x') # 1\n861729\n")).detail
        == "print('x') # 1: expected '861729', got 'x'"
    )


def test_what_one_case_was_tested_with_is_not_in_the_memory_of_the_next():
    """The second program reads its heap, freed pieces included, page by page; the system says which there are."""
    program = """
import ctypes, os
libc = ctypes.CDLL(None)
libc.sbrk.restype = ctypes.c_void_p
reader, writer = os.pipe()
def pages(start, step):
    while libc.write(writer, ctypes.c_void_p(start), 4096) == 4096:
        yield os.read(reader, 4096)
        start += step
heap = b"".join(reversed(list(pages((libc.sbrk(0) or 0) - 4096, -4096))))
assert len(heap) > 1 << 20
escaped = b"".join([b"what it ", b"should be"]) in heap
"""
    secret = script("def f(): return 1", f"for text in [{'what it should be' * 3000!r}]:\n    assert f() == text")
    with Sandbox(probe().name, QUICK) as sandbox:
        assert sandbox.judge(secret).kind == "assertion"
        assert sandbox.judge(script(program)).detail == "got False in: escaped"


def test_a_case_cannot_spoil_the_next():
    spoilers = [
        "import os\nos.chmod('..', 0)",
        "import os\nfor i in range(500):\n    os.mkdir('d'); os.chdir('d')",
        "import os\nos.mkdir('d')\nopen('d/x', 'w')\nos.chmod('d', 0)",
        "import os\nos.rmdir('../case')\nopen('../case', 'w')",
        "import os\nos.symlink('/python', '../case/link')\nos.symlink('/dev', '../beside')",
        "import resource\nresource.prlimit(1, resource.RLIMIT_NOFILE, (0, 0))",
        "import os, signal\nos.kill(1, signal.SIGSTOP)\nos.kill(1, signal.SIGINT)\nos.kill(1, signal.SIGTERM)",
        "import sys\nsys.modules['math'].sqrt = None\nimport builtins\nbuiltins.len = None",
    ]
    clean = script(
        "import os, math\nassert os.listdir('.') == [] and os.listdir('..') == ['case']\nassert len('ab') == math.sqrt(4)",
        "pass",
    )
    results = verdicts(*(case for spoiler in spoilers for case in (script(spoiler, "pass"), clean)))
    assert [result.kind for result in results[1::2]] == ["passed"] * len(spoilers), results
