"""Equal ways to say the same, and the programs in which they would not be equal."""

import random

import pytest

from benchmarks import functions
from tasks.core.records import Tests
from tasks.core.text.programs import program
from tasks.stages.refine.proposals import Job
from tasks.stages.refine.rules import generator
from tasks.stages.refine.rules.idioms import normalize_idioms
from tasks.stages.refine.rules.variable_names import module_of
from tests import tiny

SAME = {
    "not in": ("    return not x in xs", "    return x not in xs"),
    "is not": ("    return not x is None", "    return x is not None"),
    "branches": ("    if not x:\n        y = 1\n    else:\n        y = 2\n    return [y]", "    if x:\n        y = 2\n    else:\n        y = 1\n    return [y]"),
    "nested": ("    if x:\n        if xs or n:\n            return 1\n    return 2", "    if x and (xs or n):\n        return 1\n    return 2"),
    "else": ("    if x:\n        return 1\n    else:\n        return 2", "    if x:\n        return 1\n    return 2"),
    "truth": ("    if x in xs:\n        return True\n    return False", "    return x in xs"),
    "bool": ("    if x > n:\n        return True\n    return False", "    return bool(x > n)"),
    "list": (
        "    out = []\n    for y in xs:\n        if y > n:\n            out.append(y * 2)\n    return out",
        "    return [y * 2 for y in xs if y > n]",
    ),
    "sum of lists": ("    out = []\n    for y in xs:\n        out = out + [y]\n    return out", "    return [y for y in xs]"),
    "added lists": ("    out = []\n    for y in xs:\n        out += [y]\n    return out", "    return [y for y in xs]"),
    "list in a loop": (
        "    for y in xs:\n        out = []\n        for z in y:\n            out.append(z)\n        n.use(out, out)",
        "    for y in xs:\n        out = [z for z in y]\n        n.use(out, out)",
    ),
    "list of iterators": (
        "    out = []\n    for y in xs:\n        out.append(z for z in y)\n    return out",
        "    return [(z for z in y) for y in xs]",
    ),
    "set": ("    out = set()\n    for y in xs:\n        out.add(y)\n    n.use(out, out)", "    out = {y for y in xs}\n    n.use(out, out)"),
    "any": ("    for y in xs:\n        if y == n:\n            return True\n    return False", "    return any(y == n for y in xs)"),
    "all": ("    for y in xs:\n        if not y:\n            return False\n    return True", "    return all(y for y in xs)"),
    "display": ("    return [list(), dict(), tuple()]", "    return [[], {}, ()]"),
    "if expression": ("    return True if x else False", "    return bool(x)"),
    "format": ("    return '{} of {}'.format(x, n)", "    return f'{x} of {n}'"),
    "truth in parentheses": ("    return [(True if x else False)]", "    return [(bool(x))]"),
    "format in parentheses": ("    return('{} of {}'.format(x, n))", "    return(f'{x} of {n}')"),
    "branches in parentheses": ("    if(not x):\n        y = 1\n    else:\n        y = 2\n    return [y]", "    if(x):\n        y = 2\n    else:\n        y = 1\n    return [y]"),
    "temporary below a comment": ("    # the sum\n    y = x + n\n    return y", "    # the sum\n    return x + n"),
    "temporary": ("    y = x + n\n    return y", "    return x + n"),
}  # fmt: skip
OTHER = {
    "in twice": "    return not x in xs in n",
    "an equality that a type may define": "    return not x == n",
    "the list is read on the way": "    out = []\n    for y in xs:\n        if y not in out:\n            out.append(y)\n    return out",
    "the list is read where it grows": "    out = []\n    for y in xs:\n        out = out + [len(out)]\n    return out",
    "the loop's variable is used after it": "    out = []\n    for y in xs:\n        out.append(y)\n    return out, y",
    "an else of the loop": "    out = []\n    for y in xs:\n        out.append(y)\n    else:\n        n()\n    return out",
    "functions that remember": "    out = []\n    for y in xs:\n        out.append(lambda: y)\n    return out",
    "a call that may stop the iteration": "    for y in xs:\n        if next(y):\n            return True\n    return False",
    "a builtin that is none": "    list = n\n    return list()",
    "a program that looks at its variables": "    y = x\n    y = locals()\n    return y",
    "a name that more than the return knows": "    y = x\n    n(lambda: y)\n    y = 1\n    return y",
    "displays in a formatted string": "    return f'{dict() or xs}'",
    "braces": "    return '{{}} {}'.format(x)",
    "arguments with effects": "    return '{}'.format(n())",
    "a comment behind a name": "    y = x + n  # sum\n    return y",
    "a comment before a return": "    y = x + n\n    # sum\n    return y",
    "comments of truth": "    if x:  # why\n        return True\n    return False  # why not",
    "a comment of an empty list": "    out = []  # none yet\n    for y in xs:\n        out.append(y)\n    return n(out)",
    "a comment of else": "    if x:\n        return 1\n    else:  # why not\n        return 2",
    "a comment below": "    if x:\n        if xs:\n            return 1\n        # why not\n    return 2",
    "comments": "    out = []\n    for y in xs:  # why\n        out.append(y)\n    return out",
    "yields": "    out = []\n    for y in xs:\n        out.append((yield y))\n    return out",
    "what is gathered is looked at where the loop breaks off": "    try:\n        out = []\n        for y in xs:\n            out.append(n / y)\n    except ZeroDivisionError:\n        pass\n    return out",
    "a function within looks at what is gathered": "    def seen():\n        return len(out)\n\n    out = []\n    for y in xs:\n        out.append(seen())\n    return out",
    "everyone looks at what is gathered": "    global out\n    out = []\n    for y in xs:\n        out.append(n())",
    "words held apart by parentheses": "    return 1 if not(x in xs)else 2",
    "an elif": "    if x:\n        return 1\n    elif n:\n        return 2\n    else:\n        n()\n    return 3",
}


@pytest.mark.parametrize("name", SAME)
def test_a_program_is_brought_to_its_usual_form(name):
    before, after = (f"def f(x, xs, n):\n{body}\n" for body in SAME[name])
    assert normalize_idioms(before) == after
    assert normalize_idioms(after) == after


@pytest.mark.parametrize("name", OTHER)
def test_what_would_not_be_equal_stays(name):
    code = f"def f(x, xs, n):\n{OTHER[name]}\n"
    assert normalize_idioms(code) == code


def test_a_rule_that_would_spoil_a_program_leaves_the_others_their_say():
    code = "def f(x, xs, n):\n    if not(x in xs)and n:\n        return 1\n    return list()\n"
    assert normalize_idioms(code) == code.replace("list()", "[]")
    received = "def f():\n    x = yield\n    return x\n"
    assert normalize_idioms(received) == "def f():\n    return (yield)\n"


@pytest.mark.parametrize("body", ["return(x + 1 if x else 0)", "return(lambda: x + 1)"])
def test_what_libcst_cannot_read_is_extended_still(body):
    code = f"def f(x):\n    {body}"
    compile(code, "f", "exec")
    example = tiny.example(response=code, tests=Tests("doctest", ">>> f(1)\n2\n>>> f(2)\n3\n", "f"))
    rules = generator.RuleGenerator(0, 9, lambda cases: (["2\n", "4\n"] for _ in cases))
    assert generator.normalize(example)[1] == []
    (proposal,) = rules.propose([Job(example, "extend")], 0)
    assert proposal.generator == "variant"


def test_at_the_top_of_a_module_everyone_looks():
    code = "out = []\nfor y in range(3):\n    out.append(y)\n"
    assert normalize_idioms(code) == code


def test_a_program_in_a_list_is_put_back_where_it_stood():
    code = "   def f(x):\n       return not x is None"
    text = f"1. Do:\n   ```python\n{code}\n   ```\nDone"
    example = tiny.example(response=text, tests=Tests("doctest", ">>> f(1)\nTrue", "f"))
    new, rules = generator.normalize(example)
    assert rules == ["idioms"]
    assert new.response == "1. Do:\n   ```python\ndef f(x):\n    return x is not None\n   ```\nDone"
    assert generator.normalize(new)[1] == []


def test_a_draft_in_the_reasoning_stays_as_it_was_thought():
    code = "def f(x):\n    return not x is None"
    text = f"<think>\n{code}\n</think>\n\n```python\n{code}\n```"
    new, _ = generator.normalize(tiny.example(response=text, tests=Tests("doctest", ">>> f(1)\nTrue", "f")))
    assert new.response == f"<think>\n{code}\n</think>\n\n```python\ndef f(x):\n    return x is not None\n```"


def test_a_builtin_that_what_runs_before_binds_is_none():
    code = "def f(xs):\n    return list()\n"
    assert normalize_idioms(code, "list = tuple") == code


def test_what_cannot_be_read_is_reported():
    with pytest.raises(SyntaxError):
        normalize_idioms("def f(:")
    with pytest.raises(SyntaxError):  # which libcst's own error is not
        module_of("def f(:")


@pytest.mark.parametrize("name", SAME)
def test_both_forms_give_the_same_for_many_values(name):
    draw = random.Random(name)
    before, after = (_compiled(f"def f(x, xs, n):\n{body}\n") for body in SAME[name])
    for _ in range(200):
        values = (draw.randint(-2, 3), [draw.randint(-2, 3) for _ in range(draw.randint(0, 4))], draw.randint(-2, 3))
        assert _result(before, values) == _result(after, values)


def test_synthetic_functions_mean_the_same_in_their_usual_form():
    draw = random.Random(0)
    changed = 0
    for example in functions.examples(300, 1):
        code = program(example.response)
        new = normalize_idioms(code)
        changed += new != code
        xs = [draw.randint(-9, 9) for _ in range(8)]
        assert _result(_compiled(code), (xs, 3)) == _result(_compiled(new), (xs, 3))
    assert changed > 30


def _compiled(code):
    space = {}
    exec(code, space)  # our own text
    return space["f"]


def _result(function, values):
    try:
        return function(*values)
    except Exception as error:
        return type(error)
