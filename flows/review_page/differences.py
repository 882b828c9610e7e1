"""Compare two texts word by word."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from rapidfuzz.distance import Indel

WORD = re.compile(r"\w+|\s+|[^\w\s]")


@dataclass(frozen=True)
class Piece:
    """A part of a text, which the other text also has or lacks."""

    text: str
    is_changed: bool


def compare(before: str, after: str) -> tuple[list[Piece], list[Piece]]:
    """Return both texts in pieces, split so that as few words as possible differ."""
    old, new = WORD.findall(before), WORD.findall(after)
    old_pieces, new_pieces = list[Piece](), list[Piece]()
    for step in Indel.opcodes(old, new):
        is_changed = step.tag != "equal"
        _add(old_pieces, old[step.src_start : step.src_end], is_changed)
        _add(new_pieces, new[step.dest_start : step.dest_end], is_changed)
    return old_pieces, new_pieces


def _add(pieces: list[Piece], words: Sequence[str], is_changed: bool) -> None:
    if words:
        pieces.append(Piece("".join(words), is_changed))
