"""Which records say the same: letter by letter, by shared shingles, by embedding; and which of them stays."""

from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from tasks.core.ngrams import ngrams, words
from tasks.stages.ingest.params import NearDuplicates

Pair = tuple[int, int]
SHINGLE = 3
PERMUTATIONS = 128
BANDS = 32  # of four rows each: finds 99.98 % of the pairs at a Jaccard of 0.7, 87 % at 0.5
BLOCK = 2048
FEW = 10
"""What no more than so many texts share may be a copy; what more share can be a template."""


def exact(keys: Iterable[Hashable]) -> dict[int, int]:
    """Each later position whose key came before → the position where it came first."""
    first: dict[Hashable, int] = {}
    return {here: there for here, key in enumerate(keys) if (there := first.setdefault(key, here)) != here}


def shingles(contents: Sequence[str], params: NearDuplicates) -> dict[int, set[str]]:
    """What is a text's own, by position: its runs of three words but for those of templates. Short texts are left out."""
    found = [ngrams(words(content), SHINGLE) for content in contents]
    counts = Counter(run for runs in found for run in runs)
    limit = max(FEW, params.template * len(contents))
    templates = {run for run, count in counts.items() if count > limit}
    own = {here: runs - templates for here, runs in enumerate(found)}
    return {here: runs for here, runs in own.items() if len(runs) > params.min_words - SHINGLE}


def jaccard_pairs(own: Mapping[int, set[str]], threshold: float) -> set[Pair]:
    """The pairs that share at least `threshold` of their shingles. MinHash and LSH propose, the shingles decide."""
    from rensa import RMinHash, RMinHashLSH

    places = list(own)
    sketches = RMinHash.from_token_sets([list(own[here]) for here in places], num_perm=PERMUTATIONS, seed=0)
    index = RMinHashLSH(threshold=threshold, num_perm=PERMUTATIONS, num_bands=BANDS)
    index.insert_many(sketches)
    proposed = {(places[a], places[b]) for a, sketch in enumerate(sketches) for b in index.query(sketch) if a < b}
    return {(a, b) for a, b in proposed if _jaccard(own[a], own[b]) >= threshold}


def cosine_pairs(vectors: NDArray[np.float32], threshold: float) -> set[Pair]:
    """The pairs of unit vectors whose cosine is at least `threshold`."""
    pairs: set[Pair] = set()
    for start in range(0, len(vectors), BLOCK):
        rows, columns = np.nonzero(vectors[start : start + BLOCK] @ vectors.T >= threshold)
        pairs |= {(start + int(a), int(b)) for a, b in zip(rows, columns, strict=True) if start + a < b}
    return pairs


def resolve(pairs: Iterable[Pair], ranks: Sequence[int]) -> dict[int, int]:
    """Each position that has to go → the one it is too like and that stays. No two that stay are a pair.

    A lower rank goes last, then what came first stays. So with test before valid before train as ranks, the training
    copy of a pair goes, and within a split the later one.
    """
    likes: defaultdict[int, list[int]] = defaultdict(list)
    for a, b in pairs:
        likes[a].append(b)
        likes[b].append(a)
    order = sorted(likes, key=lambda here: (ranks[here], here))
    gone: dict[int, int] = {}
    stays: set[int] = set()
    for here in order:
        twin = min(stays.intersection(likes[here]), default=None)
        if twin is None:
            stays.add(here)
        else:
            gone[here] = twin
    return gone


def _jaccard(a: set[str], b: set[str]) -> float:
    return len(a & b) / len(a | b)
