"""A program does not pass by talking the sandbox out of its tests."""

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
    ("stage", "outcome"), [("run", ""), ("compile", ""), ("", "exception"), ("later", "exception"), ("run", "passed")]
)
def test_an_answer_that_no_source_leads_to_is_forged(stage, outcome):
    program = TRICKS["claims success in the protocol's own words"].replace(
        '"", "", "", "", ""', f'{stage!r}, {outcome!r}, "", "", ""'
    )
    found = verdicts(examples(program, ">>> f(1)\n2\n"), script(program, "assert f(1) == 2"))
    assert [(one.outcome, one.detail) for one in found] == [
        ("exception", "the program answers in place of its tests")
    ] * 2


@pytest.fixture(scope="module")
def outcomes():
    tests = [(examples(program, ">>> f(1)\n2\n"), script(program, "assert f(1) == 2")) for program in TRICKS.values()]
    found = verdicts(*(case for pair in tests for case in pair), workers=2)
    return dict(zip(TRICKS, zip(found[::2], found[1::2], strict=True), strict=True))


@pytest.mark.parametrize("trick", TRICKS)
def test_no_program_passes_that(trick, outcomes):
    assert not any(one.outcome == "passed" for one in outcomes[trick]), outcomes[trick]


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
    told = script("def f(): return 1", f"for text in [{'what it should be' * 3000!r}]:\n    assert f() == text")
    with Sandbox(probe().name, QUICK) as sandbox:
        assert sandbox.judge(told).outcome == "assertion"
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
    found = verdicts(*(case for spoiler in spoilers for case in (script(spoiler, "pass"), clean)))
    assert [one.outcome for one in found[1::2]] == ["passed"] * len(spoilers), found
