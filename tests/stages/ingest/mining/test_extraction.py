"""A function is cut loose from its package: decorators, annotations, prefixes and imports of it are gone."""

from tests.stages.ingest.planting import candidate, checks, refusal

TESTED = '"""\n    >>> f(1)\n    2\n    """'


def program(tmp_path, text, **others):
    return candidate(tmp_path, part=text.replace("TESTED", TESTED), **others).program


def test_decorators_of_the_package_go_and_those_of_the_standard_library_stay(tmp_path):
    text = """
import functools
from .other import registered

@registered("x", kind=(
    1,
))
@functools.lru_cache(maxsize=None)
def f(x):
    TESTED
    return x + 1
"""
    other = "def registered(*args, **kwargs):\n    return lambda function: function\n"
    assert program(tmp_path, text, other=other) == "@functools.lru_cache(maxsize=None)\ndef f(x):\n    return x + 1"


def test_annotations_stay_where_the_standard_library_explains_them(tmp_path):
    text = """
from typing import TypeVar
T = TypeVar("T")

def f(x: T, *rest: list[int], y: int = 1) -> T:
    TESTED
    return x + y
"""
    assert program(tmp_path, text).startswith("def f(x: T, *rest: list[int], y: int = 1) -> T:")


def test_annotations_that_name_classes_of_the_package_are_cut(tmp_path):
    text = """
from __future__ import annotations
import numpy as np
class Graph: ...

def f(x: Graph | None, y: np.ndarray = 1, *, é: Graph = 0) -> dict[str, Graph]:
    TESTED
    total: Graph = x + y
    return total
"""
    assert program(tmp_path, text) == "def f(x, y=1, *, é=0):\n    total = x + y\n    return total"


def test_names_behind_the_package_lose_their_prefix(tmp_path):
    text = """
import planted as pl
import planted.other

def f(x):
    TESTED
    return pl.other.step(x) + planted.other.step(x) - pl.step(x)
"""
    item = candidate(
        tmp_path,
        init="from .other import step\n",
        part=text.replace("TESTED", TESTED),
        other="def step(x):\n    return x + 1\n",
    )
    assert item.program == "def f(x):\n    return step(x) + step(x) - step(x)"
    assert checks(item).prelude == "def step(x):\n    return x + 1"


def test_a_prefix_becomes_part_of_the_name_where_the_plain_name_is_taken(tmp_path):
    text = """
import planted as pl

def f(step):
    TESTED
    return pl.step(step)
"""
    item = candidate(tmp_path, init="def step(x):\n    return x + 1\n", part=text.replace("TESTED", TESTED))
    assert item.program == "def f(step):\n    return pl_step(step)"
    assert checks(item).prelude.endswith("pl_step = step")


def test_an_import_of_the_package_inside_the_function_is_taken_over(tmp_path):
    text = """
def f(x):
    TESTED
    from .other import step
    import math

    return math.floor(step(x))
"""
    other = "def step(x):\n    return x + 1\n"
    assert program(tmp_path, text, other=other) == "def f(x):\n    import math\n\n    return math.floor(step(x))"


def test_a_third_party_import_inside_the_function_is_refused(tmp_path):
    text = "def f(x):\n    TESTED\n    import numpy\n    return numpy.add(x, 1)\n"
    assert refusal(tmp_path, part=text.replace("TESTED", TESTED)).reason == "third_party"


def test_a_name_of_a_renamed_import_is_called_as_it_is_defined(tmp_path):
    text = "from .other import step as advance\ndef f(x):\n    TESTED\n    return advance(x)\n"
    assert program(tmp_path, text, other="def step(x):\n    return x + 1\n") == "def f(x):\n    return step(x)"


def test_an_attribute_of_the_package_that_is_written_to_is_not_made_a_local_name(tmp_path):
    text = "import planted as pl\ndef f(x):\n    TESTED\n    pl.seen = x\n    return x + 1\n"
    refused = refusal(tmp_path, init="seen = 0\n", part=text.replace("TESTED", TESTED))
    assert refused.reason == "module_object"


def test_a_line_of_two_statements_gives_only_the_one_that_is_needed(tmp_path):
    text = "import math; ONE = 1; TWO = math.pi\ndef f(x):\n    TESTED\n    return x + ONE\n"
    assert checks(candidate(tmp_path, part=text.replace("TESTED", TESTED))).prelude == "ONE = 1"
