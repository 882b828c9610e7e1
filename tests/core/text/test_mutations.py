"""A mutant is the program with one small mistake; the rest of its text is unchanged."""

import ast
import difflib

import pytest

from tasks.core.text.mutations import OPERATORS, mutants

PROGRAM = '''def find(items, wanted):
    """Where `wanted` stands."""  # or -1
    low, high = 0, len(items) - 1
    if not items:
        return -1
    while low <= high:
        middle = (low+high) // 2
        if items[middle] == wanted and middle >= 0:
            return  middle
        low = max(low, middle)
    return -1
'''
ALL = list(mutants(PROGRAM, "0", list(OPERATORS)))


def changed(operator):
    """The changed lines of each mutant of a kind: (what was there, what is there)."""
    changes = set()
    for name, code in ALL:
        if name == operator:
            lines = list(difflib.ndiff(PROGRAM.splitlines(), code.splitlines()))
            old, new = (tuple(line[2:].strip() for line in lines if line[0] == sign) for sign in "-+")
            changes.add((old, new))
    return changes


@pytest.mark.parametrize(
    ("operator", "old", "new"),
    [
        ("comparison", ("while low <= high:",), ("while low < high:",)),
        (
            "comparison",
            ("if items[middle] == wanted and middle >= 0:",),
            ("if items[middle] != wanted and middle >= 0:",),
        ),
        ("arithmetic", ("middle = (low+high) // 2",), ("middle = (low-high) // 2",)),
        ("boolean", ("if items[middle] == wanted and middle >= 0:",), ("if items[middle] == wanted or middle >= 0:",)),
        ("boundary", ("low, high = 0, len(items) - 1",), ("low, high = 1, len(items) - 1",)),
        ("boundary", ("low, high = 0, len(items) - 1",), ("low, high = 0, len(items) - 0",)),
        ("guard", ("if not items:", "return -1"), ()),
        ("arguments", ("low = max(low, middle)",), ("low = max(middle, low)",)),
        ("variable", ("return  middle",), ("return  high",)),
        ("condition", ("if not items:",), ("if items:",)),
        (
            "condition",
            ("if items[middle] == wanted and middle >= 0:",),
            ("if not (items[middle] == wanted and middle >= 0):",),
        ),
        ("return", ("return  middle",), ("middle",)),
    ],
)
def test_each_kind_makes_its_mistake(operator, old, new):
    assert (old, new) in changed(operator)


def test_every_mutant_is_python_and_no_two_are_the_same():
    codes = [code for _, code in ALL]
    assert all(ast.parse(code) for code in codes)
    assert len(set(codes)) == len(codes)
    assert PROGRAM not in codes


def test_one_place_changes_and_comments_and_layout_stay():
    for name, code in ALL:
        assert '"""Where `wanted` stands."""  # or -1' in code
        blocks = difflib.SequenceMatcher(None, PROGRAM.splitlines(), code.splitlines(), False).get_opcodes()
        assert sum(tag != "equal" for tag, *_ in blocks) == 1, name


def test_what_is_written_to_and_what_is_called_keep_their_names():
    for name, code in ALL:
        if name == "variable":
            assert "low, high = 0" in code
            assert code.count("len(") == 1
            assert code.count("max(") == 1
            assert "def find(items, wanted):" in code


def test_kinds_take_turns_and_the_seed_decides():
    first = [name for name, _ in ALL[: len(OPERATORS)]]
    assert sorted(first) == sorted(OPERATORS)
    assert list(mutants(PROGRAM, "0", list(OPERATORS))) == ALL
    assert list(mutants(PROGRAM, "1", list(OPERATORS))) != ALL


def test_only_the_kinds_that_are_asked_for():
    assert {name for name, _ in mutants(PROGRAM, "0", ["guard"])} == {"guard"}


def test_text_that_is_no_program_says_so():
    with pytest.raises(SyntaxError):
        next(mutants("This is prose.", "0", list(OPERATORS)))


def test_a_condition_without_a_space_is_turned_round_too():
    assert ("condition", "def f(x):\n    if not (x > 1):\n        return 1\n") in list(
        mutants("def f(x):\n    if(x > 1):\n        return 1\n", "0", ["condition"])
    )


def test_a_number_keeps_its_parentheses():
    assert ("boundary", "y = (6).bit_length()\n") in list(mutants("y = (5).bit_length()\n", "0", ["boundary"]))


def test_a_condition_with_an_else_is_no_guard():
    guarded = "def f(x):\n    if x:\n        return 1\n    return 2\n"
    either = "def f(x):\n    if x:\n        return 1\n    else:\n        x = 3\n    return x\n"
    assert len(list(mutants(guarded, "0", ["guard"]))) == 1
    assert list(mutants(either, "0", ["guard"])) == []
