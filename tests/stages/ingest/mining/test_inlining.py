"""The inlined dependencies suffice, are no more than is needed, and run in their order."""

from tasks.stages.ingest.mining.inlining import signature
from tests.stages.ingest.planting import candidate, checks, refusal

TESTED = '"""\n    >>> f(1)\n    2\n    """'


def prelude(tmp_path, text, **others):
    return checks(candidate(tmp_path, part=text.replace("TESTED", TESTED), **others)).prelude


def run(tmp_path, text, **others):
    """Return `f(1)` after the prelude ran."""
    item = candidate(tmp_path, part=text.replace("TESTED", TESTED), **others)
    namespace = {"__name__": "solution"}
    exec(checks(item).prelude, namespace)
    exec(item.program, namespace)
    return namespace["f"](1)


def test_helpers_of_helpers_come_along_in_source_order(tmp_path):
    text = """
def unused(): ...
def first(x): return second(x)
def f(x):
    TESTED
    return first(x)
def second(x): return x + ONE
ONE = 1
"""
    assert prelude(tmp_path, text) == "def first(x): return second(x)\n\n\ndef second(x): return x + ONE\n\n\nONE = 1"


def test_a_relative_import_is_inlined_with_what_it_needs(tmp_path):
    text = "from .other import step\ndef f(x):\n    TESTED\n    return step(x)\n"
    other = "from math import floor\nfrom .third import ONE\ndef step(x):\n    return floor(x + ONE)\n"
    expected = "from math import floor\n\n\nONE = 1\n\n\ndef step(x):\n    return floor(x + ONE)"
    assert prelude(tmp_path, text, other=other, third="ONE = 1\nTWO = 2\n") == expected


def test_a_name_is_found_behind_the_stars_of_its_package(tmp_path):
    text = "from . import step\ndef f(x):\n    TESTED\n    return step(x)\n"
    assert run(tmp_path, text, init="from .other import *\n", other="def step(x):\n    return x + 1\n") == 2


def test_a_default_comes_before_the_function_that_has_it(tmp_path):
    text = "from .other import same, step\ndef f(x):\n    TESTED\n    return same(step(x))\n"
    other = "from .third import ONE\ndef same(x):\n    return x\ndef step(x, by=ONE):\n    return x + by\n"
    assert run(tmp_path, text, other=other, third="ONE = 1\n") == 2


def test_what_a_constant_calls_comes_before_it(tmp_path):
    text = "from .other import same, value\ndef f(x):\n    TESTED\n    return same(x) + value\n"
    other = "from .third import make\ndef same(x):\n    return x\nvalue = make()\n"
    third = "from .fourth import one\ndef make():\n    return one()\n"
    assert run(tmp_path, text, other=other, third=third, fourth="def one(): return 1\n") == 2


def test_two_functions_that_call_each_other_are_both_there(tmp_path):
    text = """
def f(x):
    TESTED
    return even(x) + 2
def even(n): return 1 if n == 0 else odd(n - 1)
def odd(n): return 0 if n == 0 else even(n - 1)
"""
    assert run(tmp_path, text) == 2


def test_a_table_that_is_filled_later_is_filled(tmp_path):
    text = "TABLE = {}\nTABLE[1] = 2\nfor k in (5, 6):\n    TABLE[k] = k\ndef f(x):\n    TESTED\n    return TABLE[x]\n"
    assert "TABLE[1] = 2" in prelude(tmp_path, text)
    assert "TABLE[k] = k" in prelude(tmp_path, text)


def test_the_branch_without_the_package_is_taken(tmp_path):
    text = """
try:
    import numpy
    MISSING = numpy.nan
except ImportError:
    MISSING = 1
def f(x):
    TESTED
    return x + MISSING
"""
    assert prelude(tmp_path, text) == "MISSING = 1"


def test_the_branch_of_this_python_is_taken(tmp_path):
    text = "import sys\nif sys.version_info >= (3, 0):\n    ONE = 1\nelse:\n    ONE = 0\ndef f(x):\n    TESTED\n    return x + ONE\n"
    assert prelude(tmp_path, text) == "ONE = 1"


def test_overloads_are_not_the_function(tmp_path):
    text = """
import typing as t
@t.overload
def f(x: int) -> int: ...
@t.overload
def f(x: str) -> str: ...
def f(x):
    TESTED
    return x + 1
"""
    assert candidate(tmp_path, part=text.replace("TESTED", TESTED)).program == "def f(x):\n    return x + 1"


def test_one_name_for_two_things_is_refused_unless_both_say_the_same(tmp_path):
    text = "from .other import step\nONE = 1\ndef f(x):\n    TESTED\n    return step(x) + ONE\n".replace(
        "TESTED", TESTED
    )
    step = "ONE = {}\ndef step(x):\n    return x + ONE\n"
    assert refusal(tmp_path, part=text, other=step.format(2)).reason == "name_clash"
    assert checks(candidate(tmp_path, part=text, other=step.format(1))).prelude.count("ONE = 1") == 1


def test_a_helper_may_offer_a_third_party_package_that_it_does_not_need(tmp_path):
    text = """
def step(x):
    try:
        import numpy
    except ImportError:
        return x + 1
    return numpy.add(x, 1)
def f(x):
    TESTED
    return step(x)
"""
    assert "import numpy" in prelude(tmp_path, text)


def test_an_outline_ends_where_a_body_begins():
    assert signature("def f(a):\n    @a\n    def g(): return a\n    return g") == "def f(a):\n    ..."
    assert signature("def f(a, b=1): return a + b") == "def f(a, b=1):\n    ..."
    assert signature('class A(B): "One."; x = 1') == "class A(B):\n    ..."
