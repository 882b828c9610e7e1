"""Doctests become the assertions that they mean, of functions that pass them, and the prompt does not show what they expect."""

from functools import partial

import pytest

from tasks.core.answers import registry
from tasks.core.records import Example, Message, Refusal, Tests
from tasks.core.text.wording import block, request
from tasks.io import sandbox
from tasks.stages.ingest.config import Folder
from tasks.stages.ingest.mining.suites import as_suites, suite_of
from tests import tiny as small
from tests.stages.ingest.running import examples_of, ingest

RUN = partial(sandbox.run, trusted=True)


def mined(code: str, examples: str, name: str = "twice") -> Example:
    stub = f'{code.splitlines()[0]}\n    """Twice.\n\n    {examples}"""'
    messages = [Message("user", request(name, stub, "import math")), Message("assistant", block(code))]
    return small.example(messages=messages, task="function", source="toolz 1.0: a.py:twice",
        tests=Tests("doctest", examples, name, "import math"))  # fmt: skip


@pytest.mark.parametrize(
    ("examples", "suite"),
    [
        (">>> f(2)\n4\n>>> f('a')\n'aa'\n", "assert f(2) == 4\nassert f('a') == 'aa'"),
        (">>> x = f(1)\n>>> x == 2\nTrue\n>>> x is None\nFalse\n", "x = f(1)\nassert x == 2\nassert not x is None"),
        (">>> f(1)\nTrue\n", "assert f(1) == True"),
        (">>> f(None)\nTraceback (most recent call last):\nTypeError\n>>> f(1)\n<object>\n", ""),
        (">>> f(3) # doctest: +SKIP\n6\n>>> print(f(1))\n2\n>>> x = 1\n", ""),
        (">>> a if f(1) else b\n3\n", "assert (a if f(1) else b) == 3"),
        (
            "".join(f">>> f({n})\n{2 * n}\n" for n in range(20)),
            "\n".join(f"assert f({n}) == {2 * n}" for n in range(8)),
        ),
    ],
)
def test_examples_become_the_assertions_that_they_mean(examples, suite):
    assert suite_of(Tests("doctest", examples, "f")) == suite


def test_a_function_is_asked_for_its_tests_by_its_code_alone():
    (example,) = as_suites([mined("def twice(x):\n    return 2 * x", ">>> twice(4)\n8\n")], RUN)
    assert example.response == block("assert twice(4) == 8")
    assert "return 2 * x" in example.prompt[0].content
    assert "8" not in example.prompt[0].content
    assert example.task == "tests"
    check, right = registry.of(example.tests)
    assert (check.kind, right["entry"], right["prelude"]) == ("unit_tests", "twice", "import math")


@pytest.mark.parametrize(
    ("code", "examples", "reason"),
    [
        ("def twice(x):\n    return 3 * x", ">>> twice(4)\n8\n", "suite_fails"),
        ("def twice(x):\n    return 2 * x", ">>> twice(object)\n<object>\n", "no_suite"),
        ("def twice(x):\n    return 2 * x", ">>> twice = abs\n>>> twice(-4)\n4\n", "no_suite"),
    ],
)
def test_what_is_no_suite_of_the_function_is_refused_by_name(code, examples, reason):
    (refusal,) = as_suites([mined(code, examples)], RUN)
    assert isinstance(refusal, Refusal)
    assert (refusal.reason, refusal.where, refusal.source) == (reason, "twice", "toolz 1.0: a.py")


def test_a_folder_of_functions_without_tests_has_no_answers():
    with pytest.raises(ValueError, match="`functions` must be `doctests` or `tested`"):
        Folder.model_validate({"from": "folder", "path": "x", "functions": "documented", "answer": "tests"})


def test_the_stage_asks_for_the_tests_of_the_functions_of_a_folder(tmp_path):
    folder = tmp_path / "code"
    folder.mkdir()
    for number in range(2, 8):  # one that returns its argument would be refused
        name = f"scaled_by_{number}"
        text = f'def {name}(x):\n    """Scale.\n\n    >>> {name}({number + 2})\n    {number * (number + 2)}\n    """\n    return {number} * x\n'
        (folder / f"part_{number}.py").write_text(text)
    _, report = ingest(tmp_path, [{"from": "folder", "path": folder, "answer": "tests", "license": "MIT"}])
    kept = [example for part in examples_of(tmp_path).values() for example in part]
    assert len(kept) == 6
    assert {example.task for example in kept} == {"tests"}
    assert {example.tests.kind for example in kept} == {"check"}
    assert all(f"assert {registry.of(example.tests)[1]['entry']}(" in example.response for example in kept)
    assert report["tasks"]["tests"]["examples"] == 6
