"""The examples of a docstring call the function by its plain name, wherever the package would have put it."""

import pytest

from tasks.io.sources.package import Module
from tasks.stages.ingest.mining.candidates import Candidate, mine_candidates
from tests.stages.ingest.planting import candidate, checks, refusal

STEP = "def step(x):\n    return x + 1\n"


def examples(tmp_path, doctest, text="def f(x):\n    DOC\n    return x + 1\n", **others):
    doc = '"""Next.\n\n' + "".join(f"    {line}\n" for line in doctest.splitlines()) + '    """'
    return candidate(tmp_path, part=text.replace("DOC", doc), **others)


@pytest.mark.parametrize(
    "line",
    ["from planted import f", "from planted.part import f", "import planted", "import planted as pl"],
)
def test_a_line_that_imports_the_package_is_dropped(tmp_path, line):
    item = examples(tmp_path, f">>> {line}\n>>> f(1)\n2", init="from .part import f\n")
    assert checks(item).code == ">>> f(1)\n2\n"
    assert line not in item.example.messages[0].content


def test_the_package_before_a_name_is_dropped(tmp_path):
    doctest = ">>> import planted as pl\n>>> x = pl.step(0)\n>>> (pl.f(x),\n...  pl.part.f(1))  # both\n(2, 2)"
    item = examples(tmp_path, doctest, init="from .part import f\nfrom .other import *\n", other=STEP)
    assert checks(item).code == ">>> x = step(0)\n>>> (f(x),\n...  f(1))  # both\n(2, 2)\n"
    assert checks(item).prelude == STEP.strip()


def test_an_alias_that_only_the_module_imports_counts_too(tmp_path):
    text = "import planted as pl\ndef f(x):\n    DOC\n    return x + 1\n"
    assert checks(examples(tmp_path, ">>> pl.f(1)\n2", text, init="from .part import f\n")).code == ">>> f(1)\n2\n"


def test_directives_and_expected_errors_stay(tmp_path):
    doctest = '>>> f("")  # doctest: +IGNORE_EXCEPTION_DETAIL\nTraceback (most recent call last):\n    ...\nTypeError: x\n>>> f(1)\n2'
    assert checks(examples(tmp_path, doctest)).code == doctest + "\n"


def test_indented_examples_are_moved_to_the_margin_and_stay_indented_in_the_docstring(tmp_path):
    item = examples(tmp_path, "Usage::\n\n    >>> f(1)\n    2")
    assert checks(item).code == ">>> f(1)\n2\n"
    assert "    Usage::\n\n        >>> f(1)\n        2\n" in item.example.messages[0].content


def test_an_import_of_the_package_beside_another_is_refused(tmp_path):
    doc = '"""\n    >>> import os, planted\n    >>> f(1)\n    2\n    """'
    assert refusal(tmp_path, part=f"def f(x):\n    {doc}\n    return x + 1\n").reason == "own_import"


def test_a_third_party_import_in_an_example_is_refused(tmp_path):
    doc = '"""\n    >>> import numpy\n    >>> f(numpy.one)\n    2\n    """'
    assert refusal(tmp_path, part=f"def f(x):\n    {doc}\n    return x + 1\n").reason == "third_party"


def test_in_the_standard_library_the_solution_is_tested_and_not_the_original():
    text = 'def dedent(x):\n    """\n    >>> import textwrap, os\n    >>> dedent(1)\n    1\n    """\n    return x\n'
    text = text.replace("import textwrap, os", "from textwrap import dedent")
    (item,) = mine_candidates([Module("textwrap", "textwrap.py", text, "python", "3", "PSF-2.0")])
    assert isinstance(item, Candidate)
    assert checks(item).code == ">>> dedent(1)\n1\n"
