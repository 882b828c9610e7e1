"""Marks of what differs: the vectors of FAIT's card, and what holds for any two texts."""

import difflib
import itertools
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rapidfuzz.distance import LCSseq, Levenshtein

from tasks.core.sequences import TokenizedText
from tasks.methods.objectives.fait.marks import Marks, _edits, _ended, blocks, compare, of_ids, of_tokens

GUARD = "    if n == 0:\n        return 1\n"
BEFORE, AFTER = "def f(n):\n", "    return n * f(n - 1)\n"
VECTORS = {
    "an operator": ("while lo < hi:", "while lo <= hi:", Marks((0,), ((10, 11),), (0,), ())),
    "a sign": (
        "def g(a, b):\n    return a + b\n",
        "def g(a, b):\n    return a - b\n",
        Marks((1,), ((26, 27),), (1,), ((26, 27),)),
    ),
    "a name": ("a = min(xs)", "a = max(xs)", Marks((0,), ((5, 7),), (0,), ((5, 7),))),
    "a guard": (BEFORE + AFTER, BEFORE + GUARD + AFTER, Marks((1, 2), ((10, 10 + len(GUARD)),))),
    "text too much": ("range(len(xs) - 1)", "range(len(xs))", Marks((0,), (), (0,), ((13, 17),), (13,))),
    "a line too much": ("a\nb\nc\n", "a\nc\n", Marks((), (), (1,), ((2, 4),), (2,))),
    "an end too much": ("a\nb\n", "a\n", Marks((), (), (1,), ((2, 4),), (2,))),
    "an end too early": ("a\n b", "a\n b\n c", Marks((2,), ((5, 7),))),
    "an end too late": ("a\n b\n c", "a\n b", Marks((), (), (2,), ((5, 7),), (4,))),
    "a last line without end": ("a", "a\n", Marks()),
    "nothing": ("x = 1\n", "x = 1\n", Marks()),
}
CODE = st.lists(st.sampled_from(["a = 1\n", "a = 2\n", "b = a\n", "if a:\n", "    b\n", "\n"]), max_size=8).map("".join)
TEXT = st.one_of(CODE, st.text("ab\n\r é𝔘", max_size=30))


@pytest.mark.parametrize(("bad", "good", "marks"), VECTORS.values(), ids=VECTORS)
def test_what_is_marked(bad, good, marks):
    assert compare(bad, good) == marks


def test_from_max_to_min_is_marked_as_from_min_to_max():
    for name in ("an operator", "a sign", "a name", "a guard"):
        bad, good, marks = VECTORS[name]
        turned = compare(good, bad)
        assert (turned.bad_chars, turned.bad_lines) == (marks.good_chars, marks.good_lines)
        assert (turned.good_chars, turned.good_lines) == (marks.bad_chars, marks.bad_lines)


def ended(text):
    """A text whose last line has an end."""
    return "".join(_ended(text.splitlines(keepends=True)))


def chars(spans):
    return {place for start, end in spans for place in range(start, end)}


def line_chars(text, lines):
    starts = np.cumsum([0, *map(len, text.splitlines(keepends=True))])
    return {place for line in lines for place in range(starts[line], starts[line + 1])}


@given(TEXT, TEXT)
def test_what_is_not_marked_is_the_same_on_both_sides(bad, good):
    marks = compare(bad, good)
    kept = [
        "".join(c for place, c in enumerate(text) if place not in chars(spans))
        for text, spans in ((bad, marks.bad_chars), (good, marks.good_chars))
    ]
    assert ended(kept[0]) == ended(kept[1])


@given(TEXT, TEXT)
def test_characters_are_marked_within_marked_lines(bad, good):
    marks = compare(bad, good)
    assert chars(marks.good_chars) <= line_chars(good, marks.good_lines)
    assert chars(marks.bad_chars) <= line_chars(bad, marks.bad_lines)
    assert not set(marks.anchors) & chars(marks.good_chars)
    assert all(0 <= place <= len(good) for place in marks.anchors)
    assert all(end < start for (_, end), (start, _) in itertools.pairwise(marks.good_chars))


@given(st.text("ab c", max_size=20), st.text("ab c", max_size=20))
def test_within_a_line_the_script_is_a_shortest_one(bad, good):
    marks = compare(bad, good)
    lost, won = chars(marks.bad_chars), chars(marks.good_chars)
    assert max(len(lost), len(won)) <= Levenshtein.distance(bad, good) <= len(lost) + len(won)
    stretches = list(_edits(bad, good))  # a stretch takes as many operations as its longer side has characters
    assert sum(max(b - a, d - c) for (a, b), (c, d) in stretches) == Levenshtein.distance(bad, good)


@given(st.text("ab c", max_size=20), st.text("ab c", max_size=20))
def test_within_a_line_the_characters_are_those_of_the_edit_operations(bad, good):
    marks, operations = compare(bad, good), Levenshtein.editops(bad, good)
    assert chars(marks.good_chars) == {op.dest_pos for op in operations if op.tag in ("replace", "insert")}
    assert chars(marks.bad_chars) == {op.src_pos for op in operations if op.tag in ("replace", "delete")}


def reference(bad, good):
    """The lines that difflib marks, as the card asks."""
    theirs, ours = bad.splitlines(keepends=True), good.splitlines(keepends=True)
    blocks = difflib.SequenceMatcher(None, theirs, ours, autojunk=False).get_opcodes()
    changed = [block for block in blocks if block[0] != "equal"]
    return (
        tuple(line for block in changed for line in range(*block[3:5])),
        tuple(line for block in changed for line in range(*block[1:3])),
    )


def scripts(bad, good):
    """How many longest common subsequences of lines there are, told apart by where they stand."""
    theirs, ours = bad.splitlines(keepends=True), good.splitlines(keepends=True)
    longest = LCSseq.similarity(theirs, ours)

    def count(i, j, size):
        if size == 0:
            return 1
        places = ((a, b) for a in range(i, len(theirs)) for b in range(j, len(ours)) if theirs[a] == ours[b])
        return sum(count(a + 1, b + 1, size - 1) for a, b in places)

    return count(0, 0, longest)


@given(CODE, CODE)
def test_lines_are_those_of_difflib_where_only_one_script_is_shortest(bad, good):
    expected = reference(bad, good)
    matched = len(good.splitlines()) - len(expected[0])
    longest = LCSseq.similarity(bad.splitlines(keepends=True), good.splitlines(keepends=True))
    if scripts(bad, good) == 1 and matched == longest:  # difflib takes long runs first, and may miss the longest whole
        marks = compare(bad, good)
        assert (marks.good_lines, marks.bad_lines) == expected


@given(CODE, CODE)
def test_within_lines_that_differ_the_characters_are_those_of_the_edit_operations(bad, good):
    lost, won = set(), set()
    for block in blocks(bad, good):
        (a, b), (c, d) = block.bad, block.good
        operations = Levenshtein.editops(bad[a:b], good[c:d])
        lost |= {a + op.src_pos for op in operations if op.tag != "insert"}
        won |= {c + op.dest_pos for op in operations if op.tag != "delete"}
    marks = compare(bad, good)
    assert (chars(marks.good_chars), chars(marks.bad_chars)) == (won, lost)


@given(TEXT, TEXT, st.integers(0, 5))
def test_a_token_is_marked_where_it_overlaps_a_mark(bad, good, start):
    marks = compare(bad, good)
    offsets = [(place, place + 2) for place in range(0, start + len(good) + 3, 2)] + [(0, 0)]
    inside = {place + start for place in chars(marks.good_chars)}
    expected = [bool(inside & set(range(*offset))) for offset in offsets]
    shifted = [(first + start, end + start) for first, end in marks.good_chars]
    assert of_tokens(shifted, offsets, start + len(good)).tolist() == expected


def words(text, start=0):
    """A text in tokens, a word with the space before it each; lines end by tokens of their own."""
    found = [found for found in re.finditer(r" *[^\s]+|\s", "." * start + text, re.ASCII) if found.end() > start]
    names = [found[0].lstrip(".") for found in found]
    return TokenizedText([hash(name) for name in names], [(max(f.start(), start), f.end()) for f in found])


@pytest.mark.parametrize(
    ("bad", "good", "expected"),
    [
        (
            "while lo <= hi :",
            "while lo < hi :",
            ([2], [2], []),
        ),  # of the characters one is taken away, and none differs
        ("f ( xs , 1 )", "f ( xs )", ([3, 4], [], [3])),
        ("a = b\nc = d\n", "a = b\nif a :\nc = d\n", ([], [4, 5, 6, 7], [])),
        ("a = b\nif a :\nc = d\n", "a = b\nc = d\n", ([4, 5, 6, 7], [], [4])),
        ("a = b\nc = d", "a = b\n", ([4, 5, 6], [], [4])),  # the token after the text
        ("a = b\n", "a = b\n", ([], [], [])),
    ],
)
@pytest.mark.parametrize("start", [0, 7])
def test_which_tokens_differ_by_their_ids(bad, good, expected, start):
    assert of_ids(words(bad, start), words(good, start), blocks(bad, good), start) == expected


@given(CODE, CODE)
def test_tokens_that_differ_stand_on_lines_that_do_and_the_others_are_the_same_on_both_sides(bad, good):
    theirs, ours, marks = words(bad), words(good), compare(bad, good)
    lost, won, _ = of_ids(theirs, ours, blocks(bad, good))
    assert [id for place, id in enumerate(theirs.ids) if place not in lost] == [
        id for place, id in enumerate(ours.ids) if place not in won
    ]
    for tokens, places, text, lines in ((theirs, lost, bad, marks.bad_lines), (ours, won, good, marks.good_lines)):
        assert {at for place in places for at in range(*tokens.offsets[place])} <= line_chars(text, lines)


def test_a_token_across_the_edge_of_a_line_that_does_not_differ_is_left_alone():
    # The line of b is taken away within the token that ends one line and begins the next, here of another id than there.
    bad, good = "a\n  b\n\n  c\n", "a\n\n  c\n"
    theirs = TokenizedText([1, 2, 3, 4], [(0, 1), (1, 5), (5, 10), (10, 11)])
    ours = TokenizedText([1, 5, 4], [(0, 1), (1, 6), (6, 7)])
    assert compare(bad, good).good_lines == ()
    assert of_ids(theirs, ours, blocks(bad, good)) == ([1, 2], [], [1])
