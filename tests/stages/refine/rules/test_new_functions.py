"""New functions: prompts that state the change exactly, and expectations that come from running it."""

import random
from dataclasses import replace
from itertools import pairwise

from benchmarks import functions as synthetic
from tasks.core.records import Example, Tests
from tasks.core.text.programs import program
from tasks.core.text.wording import request, requested
from tasks.io import sandbox
from tasks.io.sandbox import Case
from tasks.stages.refine.rules import new_functions
from tasks.stages.refine.rules.generator import calls_of
from tasks.stages.refine.rules.version_notes import without_version_notes
from tests import tiny as small

DOUBLE = "def double(xs, by=2):\n    return [x * by for x in xs if x > 0]"
TOTAL = "def total(xs):\n    return sum(xs, 1)"


def example(number: int, code: str, examples: str, doc: str = "Do it.") -> Example:
    name = code.split("def ")[1].split("(")[0]
    lines = "".join(f"    {line}\n" for line in examples.splitlines())
    stub = f'{code.splitlines()[0]}\n    """{doc}\n\n{lines}    """'
    return small.example(
        number, prompt=request(name, stub, ""), response=f"```python\n{code}\n```", tests=Tests("doctest", examples, name),
        task="function",
    )  # fmt: skip


FIRST = example(0, DOUBLE, ">>> double([1, -2, 3])\n[2, 6]\n>>> double([4, 5], by=3)\n[12, 15]\n")
SECOND = example(1, TOTAL, ">>> total([1, 2, 3])\n7\n")


def finish(*drafts):
    outputs = list(sandbox.outputs(Case(draft.solution, calls_of(draft)) for draft in drafts))
    return [new_functions.finish_draft(draft, output) for draft, output in zip(drafts, outputs, strict=True)]


def passes(example: Example) -> bool:
    return next(sandbox.run([Case(program(example.response), example.tests)])).kind == "passed"


def test_a_docstring_gets_examples_that_it_did_not_have():
    (draft,) = new_functions.add_doctest_calls(new_functions.parse_function(FIRST), random.Random(0))
    (new,) = finish(draft)
    assert new.response == FIRST.response
    parts = requested(new.prompt[-1].content)
    assert FIRST.tests.code.strip() in new.tests.code
    assert "    >>> double([1, -2])\n    [2]\n" in parts.stub
    assert passes(new)


def test_a_variant_says_what_it_changes_and_its_tests_tell_it_from_what_it_is_a_variant_of():
    drafts = list(new_functions.variants(new_functions.parse_function(FIRST), random.Random(0)))
    for new in finish(*drafts):
        if new is not None:
            assert "Do what `double` does, with `" in new.prompt[-1].content
            assert new.tests.entry == "double_variant"
            assert DOUBLE in requested(new.prompt[-1].content).context
            assert passes(new)
    assert any("`>=` in place of `>`" in draft.statement for draft in drafts)


def test_a_variant_of_a_function_on_one_line_has_its_signature_with_the_new_name():
    code = "def add(a: int, b: int = 2) -> int: return a + b"
    drafts = list(
        new_functions.variants(new_functions.parse_function(example(0, code, ">>> add(5, 1)\n6\n")), random.Random(0))
    )
    assert [draft.stub for draft in drafts] == ["def add_variant(a: int, b: int = 2) -> int:"]
    (new,) = finish(*drafts)
    assert program(new.response) == "def add_variant(a: int, b: int = 2) -> int: return a - b"


def test_two_functions_make_one():
    ((draft,), (other,)) = (
        list(new_functions.compositions(new_functions.parse_function(a), new_functions.parse_function(b))) for a, b in ((SECOND, FIRST), (FIRST, SECOND))
    )  # fmt: skip
    new, nothing = finish(draft, other)
    assert program(new.response) == "def total_of_double(xs, by=2):\n    return total(double(xs, by))"
    assert new.tests.code == ">>> total_of_double([1, -2, 3])\n9\n>>> total_of_double([4, 5], by=3)\n28\n"
    assert nothing is None  # a number is no list
    assert passes(new)


def test_functions_whose_surroundings_give_one_name_two_meanings_make_none():
    first, second = (
        new_functions.parse_function(replace(e, tests=replace(e.tests, prelude=f"LIMIT = {n}")))
        for n, e in enumerate((FIRST, SECOND))
    )
    assert list(new_functions.compositions(second, first)) == []


def test_functions_of_two_licences_make_none():
    mixed = new_functions.parse_function(replace(SECOND, license="GPL-3.0"))
    assert list(new_functions.compositions(mixed, new_functions.parse_function(FIRST))) == []


def test_a_program_that_may_not_end_has_no_variants():
    endless = example(0, "def f(n):\n    while n < 3:\n        n = n + 1\n    return n", ">>> f(1)\n3\n")
    again = example(0, "def f(n):\n    return 1 if n < 1 else f(n - 1)", ">>> f(1)\n1\n")
    for row in (endless, again):
        assert list(new_functions.variants(new_functions.parse_function(row), random.Random(0))) == []


def test_what_prints_an_address_or_nothing_is_no_expectation():
    lazy = example(0, "def f(n):\n    return (x for x in range(n + 1))", ">>> list(f(1))\n[0, 1]\n>>> f(1) and None\n")
    draft = next(new_functions.variants(new_functions.parse_function(lazy), random.Random(0)))
    assert new_functions.finish_draft(draft, ["<generator object f at 0x7f>\n", ""]) is None


def test_examples_that_build_on_one_another_end_where_one_fails():
    counter = example(0, "def f(it):\n    return next(it) + 1", ">>> it = iter([1, 2])\n>>> f(it)\n2\n>>> f(it)\n3\n")
    draft = next(new_functions.variants(new_functions.parse_function(counter), random.Random(0)))
    new = new_functions.finish_draft(draft, ["", "5\n", None])
    assert new.tests.code == ">>> it = iter([1, 2])\n>>> f_variant(it)\n5\n"


def test_every_new_synthetic_function_passes_its_tests():
    rows = synthetic.examples(80, 5)
    parsed = [new_functions.parse_function(row) for row in rows]
    drafts = [
        draft
        for function in parsed
        for draft in list(new_functions.variants(function, random.Random(function.example.id)))[:2]
    ]
    drafts += [draft for a, b in pairwise(parsed) for draft in new_functions.compositions(a, replace(b, name="g"))]
    finished = [example for example in finish(*drafts) if example is not None]
    assert len(finished) > 80
    verdicts = sandbox.run(Case(program(example.response), example.tests) for example in finished)
    assert {verdict.kind for verdict in verdicts} == {"passed"}


def test_notes_of_versions_go_and_all_else_stays():
    doc = "Do it.\n\n    .. versionadded:: 1.0\n\n    .. versionchanged:: 2.0\n        It was other."
    noted = example(0, TOTAL, ">>> total([1])\n2\n", doc)
    prompt = without_version_notes(noted.prompt[-1].content)
    assert "version" not in prompt
    assert "It was other" not in prompt
    assert ">>> total([1])\n    2" in prompt
    assert without_version_notes(prompt) == prompt


def test_a_prompt_of_other_words_stays():
    assert without_version_notes(".. versionadded:: 1.0") == ".. versionadded:: 1.0"
