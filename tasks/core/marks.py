"""Where a text differs from another: the lines, and within them the characters.

Fan et al. 2025, https://arxiv.org/abs/2503.16913 (FAIT), marks the lines of correct and incorrect code by difflib and their
characters by Levenshtein's distance. Both scripts come from rapidfuzz here, the lines by their longest common subsequence
(Hunt & McIlroy 1976): equal to difflib's wherever only one script is shortest and difflib finds it, and linear for lines that both
share.

Our design, not the paper's: where text is only taken away, the good side has nothing to mark; it is anchored at the character
that follows, which is where a model has to decide not to write the rest.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, Literal

from rapidfuzz.distance import Editops, LCSseq, Levenshtein

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Span = tuple[int, int]
"""Characters from a place to before another, counted from 0."""

LINE, CHAR, CODE = 1, 2, 4
"""What a token can be to a fault: on a line that differs, itself different (or an anchor), part of the program. Flags."""


@dataclass(frozen=True, slots=True)
class Marking:
    """How the tokens of a pair of programs are marked."""

    granularity: Literal["char", "token_id"] = "char"
    """What is held against each other within lines that differ: characters, or the ids of tokens."""
    anchors: bool = True
    """Whether the place where text is only taken away is marked as if its characters differed."""
    union: bool = False
    """Whether the marks of several pairs of one program are put together, or each pair stands for itself."""


DEFAULT = Marking()


@dataclass(frozen=True, slots=True)
class Marks:
    """What tells a good text from a bad one. Places are those of the whole texts, in order, and spans never touch."""

    good_lines: tuple[int, ...] = ()
    """Lines that the bad text lacks, from 0, as `str.splitlines` counts."""
    good_chars: tuple[Span, ...] = ()
    bad_lines: tuple[int, ...] = ()
    bad_chars: tuple[Span, ...] = ()
    anchors: tuple[int, ...] = ()
    """Characters of the good text before which the bad one has more; the length of the good text where that is its end."""


def compare(bad: str, good: str) -> Marks:
    """The marks of two texts; equal texts have none."""
    bad_lines: list[int] = []
    good_lines: list[int] = []
    bad_chars: list[Span] = []
    good_chars: list[Span] = []
    anchors: list[int] = []
    for block in blocks(bad, good):
        bad_lines.extend(range(*block.bad_lines))
        good_lines.extend(range(*block.good_lines))
        (bad_at, bad_end), (good_at, good_end) = block.bad, block.good
        for lost, won in _edits(bad[bad_at:bad_end], good[good_at:good_end]):
            _add(bad_chars, lost, bad_at)
            _add(good_chars, won, good_at)
            if won[0] == won[1]:
                anchors.append(good_at + won[0])
    return Marks(tuple(good_lines), tuple(good_chars), tuple(bad_lines), tuple(bad_chars), tuple(anchors))


@dataclass(frozen=True, slots=True)
class Block:
    """A stretch of lines that the other text lacks, on either side; one of them may be empty."""

    bad_lines: Span
    good_lines: Span
    bad: Span
    """Its characters."""
    good: Span


def blocks(bad: str, good: str) -> Iterator[Block]:
    """The stretches of lines at which two texts differ, in order."""
    theirs, ours = bad.splitlines(keepends=True), good.splitlines(keepends=True)
    bad_starts, good_starts = _starts(theirs), _starts(ours)
    for lost, won in _between(LCSseq.editops(theirs, ours)):
        chars = [(starts[first], starts[end]) for starts, (first, end) in ((bad_starts, lost), (good_starts, won))]
        yield Block(lost, won, *chars)


def _edits(bad: Sequence[Hashable], good: Sequence[Hashable]) -> Iterator[tuple[Span, Span]]:
    """The stretches, bad and good, between what a shortest script of insertions, deletions and replacements keeps."""
    return _between(Levenshtein.editops(bad, good))


def _between(script: Editops) -> Iterator[tuple[Span, Span]]:
    """The stretches, bad and good, between what a script keeps."""
    bad_at = good_at = 0
    for block in script.as_matching_blocks():
        if block.a > bad_at or block.b > good_at:
            yield (bad_at, block.a), (good_at, block.b)
        bad_at, good_at = block.a + block.size, block.b + block.size


def _add(spans: list[Span], span: Span, offset: int) -> None:
    start, end = span[0] + offset, span[1] + offset
    if start == end:
        return
    if spans and spans[-1][1] == start:
        spans[-1] = (spans[-1][0], end)
    else:
        spans.append((start, end))


def of_lines(text: str, numbers: Sequence[int]) -> list[Span]:
    """The characters of some lines of a text, their ends included."""
    starts = _starts(text.splitlines(keepends=True))
    return [(starts[number], starts[number + 1]) for number in numbers]


def _starts(lines: Sequence[str]) -> list[int]:
    """The place of each line's first character, and that after the last line."""
    return [0, *accumulate(map(len, lines))]


def of_tokens(spans: Sequence[Span], offsets: Sequence[Span], length: int) -> NDArray[np.bool_]:
    """Which tokens of a text of `length` characters overlap a span, shape (tokens,). `offsets` holds each token's characters."""
    import numpy as np

    marked = np.zeros(length + 1, dtype=np.int64)
    for first, end in spans:
        marked[first + 1 : end + 1] = 1
    up_to = marked.cumsum()
    places = np.clip(np.asarray(offsets, dtype=np.int64).reshape(-1, 2), 0, length)
    found: NDArray[np.bool_] = up_to[places[:, 1]] > up_to[places[:, 0]]
    return found


@dataclass(frozen=True, slots=True)
class Tokens:
    """A text in tokens: their ids, and the characters of each."""

    ids: list[int]
    offsets: Sequence[Span]


def of_ids(bad: Tokens, good: Tokens, found: Iterable[Block], start: int = 0) -> tuple[list[int], list[int], list[int]]:
    """The places of tokens that differ by their ids, block by block: of the bad text's, of the good text's, and of those of the
    good text's at or before which the bad one has more. What the blocks are of begins in both texts at `start`."""
    bad_places: list[int] = []
    good_places: list[int] = []
    anchors: list[int] = []
    for block in found:
        theirs, ours = _overlapping(bad.offsets, block.bad, start), _overlapping(good.offsets, block.good, start)
        for lost, won in _edits([bad.ids[place] for place in theirs], [good.ids[place] for place in ours]):
            bad_places.extend(theirs[slice(*lost)])
            good_places.extend(ours[slice(*won)])
            if won[0] == won[1]:
                anchors.append(ours.start + won[0])
    return bad_places, good_places, anchors


def _overlapping(offsets: Sequence[Span], span: Span, start: int) -> range:
    """The tokens that overlap a span; where that is empty, no token, before the first one that goes on behind it."""
    first = bisect_right(offsets, span[0] + start, key=lambda offset: offset[1])
    end = bisect_left(offsets, span[1] + start, key=lambda offset: offset[0])
    return range(first, end if span[0] < span[1] else first)
