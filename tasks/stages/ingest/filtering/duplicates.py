"""Find duplicates (equal texts, shared shingles, close embeddings) and merge them: decide which record of a pair is removed."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from tasks.core.records import Split
from tasks.core.text.near_duplicates import Likeness
from tasks.core.text.shingles import MOST, Indices

SHINGLE = 3
BLOCK = 2048
FEW = 10
"""A shingle in at most this many texts may come from copies; a shingle in more texts may belong to a template."""
RANKS: Mapping[Split, int] = {"test": 1, "gate": 2, "valid": 3, "train": 4}
"""Of two near-duplicates, the one with the lower rank is kept. Records of a benchmark have rank 0."""


def cosine_pairs(vectors: NDArray[np.float32], threshold: float, most: int = MOST) -> Indices:
    """Return the pairs of unit vectors whose cosine is at least `threshold`, the earlier one first; shape (pairs, 2).

    Each vector is paired with at most `most` earlier ones, the first that are similar. Memory holds two blocks of vectors, their product and
    the pairs; `vectors` may be on disk.
    """
    pairs = [np.zeros((0, 2), np.int64)]
    for start in range(0, len(vectors), BLOCK):
        block = np.asarray(vectors[start : start + BLOCK])
        room = np.full(len(block), most)
        for other in range(0, start + 1, BLOCK):
            is_alike = block @ np.asarray(vectors[other : other + BLOCK]).T >= threshold
            if other == start:
                is_alike = np.tril(is_alike, -1)
            if is_alike.any():
                is_alike &= np.cumsum(is_alike, axis=1) <= room[:, None]
                room -= np.count_nonzero(is_alike, axis=1)
                later, earlier = np.nonzero(is_alike)
                pairs.append(np.stack([earlier + other, later + start], axis=1))
    return np.concatenate(pairs)


class Kept:
    """The kept texts of each class of one `Likeness`, with which later texts are compared."""

    def __init__(self, likeness: Likeness) -> None:
        self._classes = likeness.classes
        both = np.concatenate([likeness.pairs, likeness.pairs[:, ::-1]])
        both = both[np.argsort(both[:, 0], kind="stable")]
        self._neighbours = both[:, 1]
        num_classes = int(likeness.classes.max(initial=-1)) + 1
        self._starts = np.searchsorted(both[:, 0], np.arange(num_classes + 1))
        self._has_others = (np.bincount(likeness.classes[likeness.classes >= 0], minlength=num_classes) > 1) | (
            np.diff(self._starts) > 0
        )
        self._kept: defaultdict[int, dict[int, int]] = defaultdict(dict)

    def compared(self) -> NDArray[np.bool_]:
        """Return True for each text that has a near-duplicate."""
        return (self._classes >= 0) & np.append(self._has_others, False)[self._classes]

    def twins(self, position: int, family: int) -> Iterator[int]:
        """Yield kept near-duplicates of a text, including the first one. Texts of one family are not near-duplicates of each other."""
        if (number := int(self._classes[position])) < 0:
            return
        for near in (number, *self._neighbours[self._starts[number] : self._starts[number + 1]].tolist()):
            for other, twin in self._kept.get(near, {}).items():
                if not other or other != family:
                    yield twin

    def keep(self, position: int, family: int) -> None:
        """Record that a text is kept. For each class and family, the first text is remembered."""
        if (number := int(self._classes[position])) >= 0:
            kept = self._kept[number]
            kept[family] = min(position, kept.get(family, position))


def merge_classes(
    sides: Sequence[Likeness],
    pairs: Indices,
    ranks: NDArray[np.int8],
    families: NDArray[np.uint64],
    is_rescued: NDArray[np.bool_] | None = None,
) -> dict[int, int]:
    """Map each position to remove to its near-duplicate that is kept.

    No two kept positions are near-duplicates, unless one of them is rescued and both have the same rank.

    Positions are processed by rank, the lowest first, and by order within a rank. With test before valid before train as ranks, the training
    copy of a pair is removed, and within a split the later one. Two records are near-duplicates if their texts are near-duplicates on one of
    the `sides`, or if they are one of `pairs`, shape (pairs, 2). Records of rank 0 are never removed.
    """
    kept_sides = [Kept(side) for side in sides]
    neighbours: defaultdict[int, list[int]] = defaultdict(list)
    for first, later in pairs.tolist():
        neighbours[first].append(later)
        neighbours[later].append(first)
    is_compared = np.zeros(len(ranks), bool)
    is_compared[list(neighbours)] = True
    for side in kept_sides:
        is_compared |= side.compared()
    compared = np.flatnonzero(is_compared)
    compared = compared[np.argsort(ranks[compared], kind="stable")]
    removed: dict[int, int] = {}
    for position, rank, family in zip(
        compared.tolist(), ranks[compared].tolist(), families[compared].tolist(), strict=True
    ):
        twins = [twin for side in kept_sides for twin in side.twins(position, family)] if rank else []
        twins += _kept_twins(neighbours.get(position, ()), removed, ranks, position) if rank else []
        is_exempt = is_rescued is not None and is_rescued[position] and all(ranks[twin] == rank for twin in twins)
        if twins and not is_exempt:
            removed[position] = min(twins)
            continue
        for side in kept_sides:
            side.keep(position, family)
    return removed


def _kept_twins(
    neighbours: Iterable[int], removed: Mapping[int, int], ranks: NDArray[np.int8], position: int
) -> list[int]:
    """Return the neighbours that come before a position and are kept."""
    place = (ranks[position], position)
    return [other for other in neighbours if (ranks[other], other) < place and other not in removed]


def near_duplicate_reason(source: str, split: Split, *, is_same_split: bool, likeness: str = "") -> tuple[str, str]:
    """Return reason and detail for a record too similar to the one at `source`: a near-duplicate within a split, a leak across splits."""
    reason = "near-duplicate" if is_same_split else "leak"
    return reason, f"too like {source} ({split})" + (f", {likeness}" if likeness else "")
