"""Find duplicates (equal texts, shared shingles, near embeddings) and merge them: decide which record of a pair is removed."""

from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tasks.core.records import Split
from tasks.core.text import shingles
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


def near_duplicate_reason(source: str, split: Split, *, is_same_split: bool) -> tuple[str, str]:
    """Return reason and detail for a record too like the one at `source`: merged within a split, a leak across two."""
    return ("near-duplicate" if is_same_split else "leak"), f"too like {source} ({split})"
