"""Find duplicates (equal texts, shared shingles, near embeddings) and merge them: decide which record of a pair is removed."""

from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from tasks.core.records import Split
from tasks.core.text.ngrams import ngrams, words
from tasks.stages.ingest.config import NearDuplicates

Pair = tuple[int, int]
SHINGLE = 3
PERMUTATIONS = 128
BANDS = 32  # of four rows each: finds 99.98 % of the pairs at a Jaccard of 0.7, 87 % at 0.5
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


def shingles(contents: Sequence[str], config: NearDuplicates) -> dict[int, set[str]]:
    """Return the three-word shingles of each text, by position, without those of templates. Short texts are left out."""
    all_shingles = [ngrams(words(content), SHINGLE) for content in contents]
    counts = Counter(shingle for text_shingles in all_shingles for shingle in text_shingles)
    limit = max(FEW, config.template * len(contents))
    templates = {shingle for shingle, count in counts.items() if count > limit}
    specific = {position: text_shingles - templates for position, text_shingles in enumerate(all_shingles)}
    min_shingles = config.min_words - SHINGLE
    return {
        position: text_shingles for position, text_shingles in specific.items() if len(text_shingles) > min_shingles
    }


def jaccard_pairs(specific: Mapping[int, set[str]], threshold: float) -> set[Pair]:
    """Return the pairs that share at least `threshold` of their shingles: candidates by MinHash and LSH, then checked exactly."""
    from rensa import RMinHash, RMinHashLSH

    positions = list(specific)
    sketches = RMinHash.from_token_sets(
        [list(specific[position]) for position in positions], num_perm=PERMUTATIONS, seed=0
    )
    index = RMinHashLSH(threshold=threshold, num_perm=PERMUTATIONS, num_bands=BANDS)
    index.insert_many(sketches)
    candidates = {
        (positions[a], positions[b]) for a, sketch in enumerate(sketches) for b in index.query(sketch) if a < b
    }
    return {(a, b) for a, b in candidates if _jaccard(specific[a], specific[b]) >= threshold}


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


def _jaccard(a: set[str], b: set[str]) -> float:
    return len(a & b) / len(a | b)
