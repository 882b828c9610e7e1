"""Diff an incorrect program against the correct one: the lines that differ, and within them the characters or tokens.

The paper marks the lines of correct and incorrect code by difflib and their characters by Levenshtein's distance. Here both edit scripts
come from rapidfuzz, that of lines by their longest common subsequence (Hunt & McIlroy 1976). It equals difflib's if there is only one
shortest script and difflib finds it, and it takes time linear in the shared lines.

Our design, not the paper's: if text is only deleted, the good side has nothing to mark. The mark is anchored at the next character,
where a model has to decide not to write the deleted text.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, Literal

from rapidfuzz.distance import Editops, LCSseq, Levenshtein

from tasks.core.sequences import TokenizedText
from tasks.core.text.programs import Span

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Marking:
    """Options for marking the tokens of a pair of programs."""

    granularity: Literal["char", "token_id"] = "char"
    """Unit of comparison within lines that differ: characters, or the ids of tokens."""
    anchors: bool = True
    """Mark the character after deleted text as if it differed."""
    union: bool = False
    """Merge the marks of all pairs of one program into one sequence, instead of making one sequence for each pair."""


DEFAULT = Marking()


@dataclass(frozen=True, slots=True)
class Marks:
    """Differences of a good text and a bad one. Places count from the beginning of the texts, in order; spans never touch."""

    good_lines: tuple[int, ...] = ()
    """Lines that the bad text lacks, from 0, as `str.splitlines` counts."""
    good_chars: tuple[Span, ...] = ()
    bad_lines: tuple[int, ...] = ()
    bad_chars: tuple[Span, ...] = ()
    anchors: tuple[int, ...] = ()
    """Places in the good text before which the bad text has more characters; the length of the good text if that is at its end."""


def compare(bad: str, good: str) -> Marks:
    """Return the marks of two texts; equal texts have none."""
    bad_lines: list[int] = []
    good_lines: list[int] = []
    bad_chars: list[Span] = []
    good_chars: list[Span] = []
    anchors: list[int] = []
    for block in blocks(bad, good):
        bad_lines.extend(range(*block.bad_lines))
        good_lines.extend(range(*block.good_lines))
        (bad_at, bad_end), (good_at, good_end) = block.bad, block.good
        for bad_span, good_span in _edits(bad[bad_at:bad_end], good[good_at:good_end]):
            _add(bad_chars, bad_span, bad_at)
            _add(good_chars, good_span, good_at)
            if good_span[0] == good_span[1]:
                anchors.append(good_at + good_span[0])
    return Marks(tuple(good_lines), tuple(good_chars), tuple(bad_lines), tuple(bad_chars), tuple(anchors))


@dataclass(frozen=True, slots=True)
class Block:
    """Consecutive lines that the other text lacks, on either side; one side may be empty."""

    bad_lines: Span
    good_lines: Span
    bad: Span
    """Their characters."""
    good: Span


def blocks(bad: str, good: str) -> Iterator[Block]:
    """Yield the blocks of lines at which two texts differ, in order. For the last line, a missing line end makes no difference."""
    bad_lines, good_lines = bad.splitlines(keepends=True), good.splitlines(keepends=True)
    bad_starts, good_starts = _starts(bad_lines), _starts(good_lines)
    for bad_span, good_span in _between(LCSseq.editops(_ended(bad_lines), _ended(good_lines))):
        sides = ((bad_starts, bad_span), (good_starts, good_span))
        yield Block(bad_span, good_span, *((starts[first], starts[end]) for starts, (first, end) in sides))


def _ended(lines: list[str]) -> list[str]:
    """Return the lines with a line end on the last one, which would otherwise differ from an equal line elsewhere in the other text."""
    return [*lines[:-1], lines[-1] + "\n"] if lines and lines[-1:] == lines[-1].splitlines() else lines


def _edits(bad: Sequence[Hashable], good: Sequence[Hashable]) -> Iterator[tuple[Span, Span]]:
    """Yield the spans, bad and good, that a shortest script of insertions, deletions and replacements changes."""
    return _between(Levenshtein.editops(bad, good))


def _between(script: Editops) -> Iterator[tuple[Span, Span]]:
    """Yield the spans, bad and good, that an edit script changes."""
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
    """Return the characters of some lines of a text, their ends included."""
    starts = _starts(text.splitlines(keepends=True))
    return [(starts[number], starts[number + 1]) for number in numbers]


def _starts(lines: Sequence[str]) -> list[int]:
    """Return the place of each line's first character, and of the end of the last line."""
    return [0, *accumulate(map(len, lines))]


def of_tokens(spans: Sequence[Span], offsets: Sequence[Span], length: int) -> NDArray[np.bool_]:
    """Return a mask of the tokens of a text of `length` characters that overlap a span, (tokens,).

    `offsets` holds each token's characters.
    """
    import numpy as np

    marked = np.zeros(length + 1, dtype=np.int64)
    for first, end in spans:
        marked[first + 1 : end + 1] = 1
    up_to = marked.cumsum()
    places = np.clip(np.asarray(offsets, dtype=np.int64).reshape(-1, 2), 0, length)
    overlaps: NDArray[np.bool_] = up_to[places[:, 1]] > up_to[places[:, 0]]
    return overlaps


def of_ids(
    bad: TokenizedText, good: TokenizedText, differing: Iterable[Block], start: int = 0
) -> tuple[list[int], list[int], list[int]]:
    """Return the places of tokens whose ids differ, block by block: of the bad text; of the good text; and of tokens of the good text at
    or before which the bad text has more. In both texts the blocks' programs begin at `start`."""
    bad_places: list[int] = []
    good_places: list[int] = []
    anchors: list[int] = []
    for block in differing:
        bad_tokens, good_tokens = (
            _overlapping(bad.offsets, block.bad, start),
            _overlapping(good.offsets, block.good, start),
        )
        edits = _edits([bad.ids[place] for place in bad_tokens], [good.ids[place] for place in good_tokens])
        for bad_span, good_span in edits:
            bad_places.extend(bad_tokens[slice(*bad_span)])
            good_places.extend(good_tokens[slice(*good_span)])
            if good_span[0] == good_span[1]:
                anchors.append(good_tokens.start + good_span[0])
    return bad_places, good_places, anchors


def _overlapping(offsets: Sequence[Span], span: Span, start: int) -> range:
    """Return the range of tokens that overlap a span; for an empty span, an empty range before the first token that ends after it."""
    first = bisect_right(offsets, span[0] + start, key=lambda offset: offset[1])
    end = bisect_left(offsets, span[1] + start, key=lambda offset: offset[0])
    return range(first, end if span[0] < span[1] else first)
