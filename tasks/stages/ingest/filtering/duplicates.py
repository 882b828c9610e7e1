"""Find duplicates (equal texts, shared shingles, near embeddings) and merge them: decide which record of a pair is removed."""

from collections import defaultdict
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tasks.core.records import Split
from tasks.core.text import shingles
from tasks.core.text.near_duplicates import Likeness
from tasks.core.text.shingles import Shingles
from tasks.stages.ingest.config import NearDuplicates

Pair = tuple[int, int]
SHINGLE = 3
BLOCK = 2048
FEW = 10
"""A shingle that at most so many texts share may come from copies; one that more share may be a template's."""
RANKS: Mapping[Split, int] = {"test": 1, "gate": 2, "valid": 3, "train": 4}
"""Of two near-duplicates the one with the lower rank is kept. Records of a benchmark have rank 0."""


def equal_positions(keys: Iterable[Hashable]) -> dict[int, int]:
    """Map each position whose key occurred before to the position of its first occurrence."""
    first: dict[Hashable, int] = {}
    return {
        position: earlier
        for position, key in enumerate(keys)
        if (earlier := first.setdefault(key, position)) != position
    }


@dataclass(frozen=True)
class Comparable:
    """The texts that are long enough to be compared, with their shingles."""

    positions: NDArray[np.int64]
    sets: Shingles


def comparable(contents: Sequence[str], config: NearDuplicates) -> Comparable:
    """Return the three-word shingles of each text, without those of templates. Texts with few words of their own are left out."""
    sets = shingles.shingle(shingles.hash_words(contents), SHINGLE)
    sets = sets.without(shingles.templates(sets, max(FEW, config.template * len(contents))))
    positions = np.flatnonzero(sets.sizes > config.min_words - SHINGLE)
    return Comparable(positions, sets.take(positions))


def jaccard_pairs(texts: Comparable, threshold: float, ranks: Sequence[int]) -> set[Pair]:
    """Return the pairs that share at least `threshold` of their shingles: candidates by MinHash and LSH, then checked exactly.

    Of very many texts alike, those of the lowest ranks are in pairs with all others (`shingles.MOST`).
    """
    ranks_of_texts = np.asarray(ranks, dtype=np.int64)[texts.positions]
    pairs = texts.positions[shingles.similar_pairs(texts.sets, threshold, ranks_of_texts.tolist())]
    return {(first, later) for first, later in pairs.tolist()}


def cosine_pairs(vectors: NDArray[np.float32], threshold: float) -> set[Pair]:
    """Return the pairs of unit vectors whose cosine is at least `threshold`."""
    pairs: set[Pair] = set()
    for start in range(0, len(vectors), BLOCK):
        rows, columns = np.nonzero(vectors[start : start + BLOCK] @ vectors.T >= threshold)
        pairs |= {(start + int(a), int(b)) for a, b in zip(rows, columns, strict=True) if start + a < b}
    return pairs


def merge_duplicates(pairs: Iterable[Pair], ranks: Sequence[int]) -> dict[int, int]:
    """Map each position to be removed to the duplicate of it that is kept. No two kept positions are a pair.

    Positions are kept by rank, the lowest first, and by order within a rank. With test before valid before train as ranks, the
    training copy of a pair is removed, and within a split the later one.
    """
    neighbours: defaultdict[int, list[int]] = defaultdict(list)
    for a, b in pairs:
        neighbours[a].append(b)
        neighbours[b].append(a)
    removed: dict[int, int] = {}
    kept: set[int] = set()
    for position in sorted(neighbours, key=lambda position: (ranks[position], position)):
        twin = min(kept.intersection(neighbours[position]), default=None)
        if twin is None:
            kept.add(position)
        else:
            removed[position] = twin
    return removed


class Kept:
    """The kept texts of each class of one side, by which later ones are judged."""

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

    def twins(self, position: int, judged_prompt: int) -> Iterator[int]:
        """Yield kept near-duplicates of a text, the first one among them. Judgements of answers to one prompt are none of each other."""
        if (number := int(self._classes[position])) < 0:
            return
        for near in (number, *self._neighbours[self._starts[number] : self._starts[number + 1]].tolist()):
            for prompt, twin in self._kept.get(near, {}).items():
                if not prompt or prompt != judged_prompt:
                    yield twin

    def keep(self, position: int, judged_prompt: int) -> None:
        """Note that a text is kept. Of a class and a judged prompt, the first one is remembered."""
        if (number := int(self._classes[position])) >= 0:
            kept = self._kept[number]
            kept[judged_prompt] = min(position, kept.get(judged_prompt, position))


def merge_classes(
    sides: Sequence[Likeness], pairs: Iterable[Pair], ranks: NDArray[np.int8], judged_prompts: NDArray[np.uint64]
) -> dict[int, int]:
    """Map each position to be removed to the near-duplicate of it that is kept, as `merge_duplicates` does.

    Two records are near-duplicates if their texts are so on one of the `sides`, or if they are one of `pairs`. Those of rank 0 stay.
    """
    kept_sides = [Kept(side) for side in sides]
    neighbours: defaultdict[int, list[int]] = defaultdict(list)
    for first, later in pairs:
        neighbours[first].append(later)
        neighbours[later].append(first)
    is_compared = np.zeros(len(ranks), bool)
    is_compared[list(neighbours)] = True
    for side in kept_sides:
        is_compared |= side.compared()
    compared = np.flatnonzero(is_compared)
    compared = compared[np.argsort(ranks[compared], kind="stable")]
    removed: dict[int, int] = {}
    for position, rank, judged in zip(
        compared.tolist(), ranks[compared].tolist(), judged_prompts[compared].tolist(), strict=True
    ):
        twins = [twin for side in kept_sides for twin in side.twins(position, judged)] if rank else []
        twins += _kept_twins(neighbours.get(position, ()), removed, ranks, position) if rank else []
        if twins:
            removed[position] = min(twins)
            continue
        for side in kept_sides:
            side.keep(position, judged)
    return removed


def _kept_twins(
    neighbours: Iterable[int], removed: Mapping[int, int], ranks: NDArray[np.int8], position: int
) -> list[int]:
    """Return those of the neighbours that come before a position, and are kept."""
    place = (ranks[position], position)
    return [other for other in neighbours if (ranks[other], other) < place and other not in removed]


def near_duplicate_reason(source: str, split: Split, *, is_same_split: bool, likeness: str = "") -> tuple[str, str]:
    """Return reason and detail for a record too like the one at `source`: merged within a split, a leak across two."""
    reason = "near-duplicate" if is_same_split else "leak"
    return reason, f"too like {source} ({split})" + (f", {likeness}" if likeness else "")
