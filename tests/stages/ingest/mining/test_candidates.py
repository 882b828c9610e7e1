"""A function with a doctest becomes a question, an answer and tests, free of the package it comes from."""

import pytest

from tasks.core.records import Refusal, Tests
from tasks.io.sources.package import Module, folder
from tasks.stages.ingest.mining import inlining
from tasks.stages.ingest.mining.candidates import Candidate, mine_candidates, solution_tier
from tests.stages.ingest.planting import candidate, checks, mined, plant, refusal

DOUBLE = '''
    def double(x):
        """Twice `x`.

        >>> double(2)
        4
        """
        # plain arithmetic
        return 2 * x
'''


def test_the_docstring_asks_and_the_code_answers(tmp_path):
    example = candidate(tmp_path, part=DOUBLE).example
    stub = 'def double(x):\n    """Twice `x`.\n\n    >>> double(2)\n    4\n    """'
    ask = "Write the Python function `double`. It must do what its docstring says; leave the docstring out."
    assert [(message.role, message.content) for message in example.messages] == [
        ("user", f"{ask}\n\n```python\n{stub}\n```"),
        ("assistant", "```python\ndef double(x):\n    # plain arithmetic\n    return 2 * x\n```"),
    ]
    assert example.tests == Tests("doctest", ">>> double(2)\n4\n", "double")


def test_an_example_says_where_it_comes_from():
    text = 'def one():\n    """>>> one()\n    1\n    """\n    return 1\n'
    (item,) = mine_candidates([Module("pkg.part", "pkg/part.py", text, "pkg", "2.0", "MIT")])
    assert isinstance(item, Candidate)
    example = item.example
    assert (example.source, example.domain, example.group) == ("pkg 2.0: pkg/part.py:one", "pkg", "pkg.part")
    assert (example.license, example.task, example.split) == ("MIT", "function", "train")


def test_tiers_follow_the_length_of_the_code():
    assert [solution_tier("x" * length) for length in (200, 201, 500, 501)] == ["short", "medium", "medium", "long"]


def test_trivial_bodies_keep_the_signature_and_return_nothing_or_the_first_argument(tmp_path):
    item = candidate(tmp_path, part=DOUBLE)
    assert item.trivial_programs == ("def double(x):\n    pass", "def double(x):\n    return x")


def test_a_function_without_arguments_has_one_trivial_body(tmp_path):
    item = candidate(tmp_path, part='def one():\n    """>>> one()\n    1\n    """\n    return 1\n')
    assert item.trivial_programs == ("def one():\n    pass",)


def test_functions_without_a_doctest_and_methods_are_no_candidates(tmp_path):
    text = '''
        def plain():
            """Returns 1."""
            return 1

        class Box:
            def get(self):
                """
                >>> Box().get()
                1
                """
                return 1
    '''
    assert mined(tmp_path, part=text) == {}


def test_imports_and_helpers_that_are_needed_are_shown_and_run_first(tmp_path):
    text = '''
        import math
        import os
        from itertools import chain, count

        FACTOR = 3

        def helper(x):
            """Triple. Nothing more."""
            return FACTOR * math.floor(x)

        def unrelated():
            return os.getcwd()

        def triples(xs):
            """Triples of all.

            >>> triples([1, 2])
            [3, 6]
            """
            return [helper(x) for x in chain(xs)]
    '''
    item = candidate(tmp_path, part=text)
    prelude = (
        "import math\nfrom itertools import chain\n\n\nFACTOR = 3\n\n\n"
        'def helper(x):\n    """Triple."""\n    return FACTOR * math.floor(x)'
    )
    assert checks(item).prelude == prelude
    assert item.example.messages[0].content.endswith(f"These names are already defined:\n\n```python\n{prelude}\n```")


def test_of_long_helpers_only_signatures_are_shown(tmp_path):
    lines = "\n".join(f"            x += {number}" for number in range(200))
    text = f'''
        import math

        def long_helper(x):
            """Adds a lot."""
            x = math.floor(x)
{lines}
            return x

        def adds(x):
            """Adds.

            >>> adds(0)
            19900
            """
            return long_helper(x)
    '''
    item = candidate(tmp_path, part=text)
    shown = item.example.messages[0].content.split("already defined:")[1]
    assert shown.strip() == '```python\ndef long_helper(x):\n    """Adds a lot."""\n    ...\n```'
    assert "x += 199" in checks(item).prelude


def test_what_only_the_doctest_calls_is_not_shown_but_runs_first(tmp_path):
    text = '''
        def make(n):
            return list(range(n))

        def total(xs):
            """Sum.

            >>> total(make(3))
            3
            """
            return sum(xs)
    '''
    item = candidate(tmp_path, part=text)
    assert "def make" in checks(item).prelude
    assert "def make" not in item.example.messages[0].content


def test_the_docstring_of_a_raw_string_keeps_its_backslashes(tmp_path):
    text = '''
        def tab():
            r"""A tab.

            >>> tab()
            '\\t'
            """
            return "\\t"
    '''
    assert (
        'r"""A tab.\n\n    >>> tab()\n    \'\\t\'\n    """'
        in candidate(tmp_path, part=text).example.messages[0].content
    )


def test_candidates_and_ids_are_the_same_every_time(tmp_path):
    plant(tmp_path, part=DOUBLE, other=DOUBLE.replace("double", "twice"))
    first, second = (list(mine_candidates(folder(tmp_path / "planted"))) for _ in range(2))
    assert first == second
    assert len({item.example.id for item in first if isinstance(item, Candidate)}) == 2


REFUSED = {
    "untested": 'def f():\n    """>>> f()  # doctest: +SKIP\n    1\n    """\n    return 1\n',
    "third_party": 'import numpy\ndef f():\n    """>>> f()\n    1\n    """\n    return numpy.one()\n',
    "star_import": 'from os.path import *\ndef f():\n    """>>> f()\n    1\n    """\n    return join("a")\n',
    "unknown_name": 'def f():\n    """>>> f()\n    1\n    """\n    return nowhere\n',
    "rebound": 'def f():\n    """>>> f()\n    1\n    """\n    return 1\nf = print\n',
    "empty": 'def f():\n    """>>> f()\n    1\n    """\n',
    "layout": 'def f(): ">>> f()\\n1\\n"; return 1\n',
    "doctest_syntax": 'def f():\n    """>>> f(\n    1\n    """\n    return 1\n',
    "module_object": 'import planted\ndef f():\n    """>>> f()\n    1\n    """\n    return dir(planted)\n',
}


@pytest.mark.parametrize("reason", REFUSED)
def test_what_cannot_be_used_is_refused_with_its_reason(tmp_path, reason):
    refused = refusal(tmp_path, part=REFUSED[reason])
    assert (refused.where, refused.reason) == ("f", reason)
    assert refused.source == "planted: part.py"
    assert refused.record.startswith("def f()")


def test_a_prompt_ends_before_the_decorator_of_what_a_function_defines_first(tmp_path):
    doc = '"""Keep it.\n\n    >>> f(abs)(-1)\n    1\n    """'
    code = f"import functools\ndef f(g):\n    {doc}\n    @functools.wraps(g)\n    def h(x):\n        return g(x)\n    return h\n"
    assert 'def f(g):\n    """Keep it.' in candidate(tmp_path, part=code).example.prompt[-1].content


def test_long_solutions_and_long_docstrings_are_refused(tmp_path):
    body = "\n".join(f"        x += {number}" for number in range(200))
    long_code = f'def f(x):\n    """>>> f(0)\n    1\n    """\n    if x:\n{body}\n    return x\n'
    manual = "Many words. " * 400
    long_text = f'def f(x):\n    """{manual}\n\n    >>> f(0)\n    1\n    """\n    return 1\n'
    assert [refusal(tmp_path, part=text).reason for text in (long_code, long_text)] == ["too_long", "too_long"]


def test_what_needs_too_much_of_its_module_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(inlining, "MAX_CLOSURE", 100)
    table = f"TABLE = {list(range(100))}\n"
    text = f'{table}def f(x):\n    """>>> f(0)\n    0\n    """\n    return TABLE[x]\n'
    assert refusal(tmp_path, part=text).reason == "closure_too_long"


def test_a_module_that_is_no_python_is_refused_and_the_others_are_mined(tmp_path):
    items = list(mine_candidates(folder(plant(tmp_path, broken="print '>>>'\n", part=DOUBLE))))
    reasons = [item.reason if isinstance(item, Refusal) else "kept" for item in items]
    assert reasons == ["syntax", "kept"]
