"""Where a text differs from another: the lines, and within them the characters.

Fan et al. 2025, https://arxiv.org/abs/2503.16913 (FAIT), marks the lines of correct and incorrect code by difflib and their
characters by Levenshtein's distance. Both scripts come from rapidfuzz here, the lines by their longest common subsequence
(Hunt & McIlroy 1976): equal to difflib's wherever only one script is shortest and difflib finds it, and linear for lines that both
share.

Our design, not the paper's: where text is only taken away, the good side has nothing to mark; it is anchored at the character
that follows, which is where a model has to decide not to write the rest.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING

from rapidfuzz.distance import LCSseq, Levenshtein

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

    anchors: bool = True
    """Whether the place where text is only taken away is marked as if its characters differed."""


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
    theirs, ours = bad.splitlines(keepends=True), good.splitlines(keepends=True)
    bad_lines: list[int] = []
    good_lines: list[int] = []
    bad_chars: list[Span] = []
    good_chars: list[Span] = []
    anchors: list[int] = []
    bad_line = good_line = bad_at = good_at = 0
    for same in LCSseq.editops(theirs, ours).as_matching_blocks():
        changed, right = "".join(theirs[bad_line : same.a]), "".join(ours[good_line : same.b])
        bad_lines.extend(range(bad_line, same.a))
        good_lines.extend(range(good_line, same.b))
        for lost, won in _edits(changed, right):
            _add(bad_chars, lost, bad_at)
            _add(good_chars, won, good_at)
            if won[0] == won[1]:
                anchors.append(good_at + won[0])
        kept = sum(map(len, ours[same.b : same.b + same.size]))
        bad_at, good_at = bad_at + len(changed) + kept, good_at + len(right) + kept
        bad_line, good_line = same.a + same.size, same.b + same.size
    return Marks(tuple(good_lines), tuple(good_chars), tuple(bad_lines), tuple(bad_chars), tuple(anchors))


def _edits(bad: str, good: str) -> Iterator[tuple[Span, Span]]:
    """The stretches, bad and good, between characters that a shortest script of insertions, deletions and replacements keeps."""
    bad_at = good_at = 0
    for block in Levenshtein.editops(bad, good).as_matching_blocks():
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
    starts = [0, *accumulate(map(len, text.splitlines(keepends=True)))]
    return [(starts[number], starts[number + 1]) for number in numbers]


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
