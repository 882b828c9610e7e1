"""Near-duplicates among very many texts: classes of equal sets of shingles, and the pairs of classes that are alike.

MinHash and its bands find the candidates, one band sorted at a time, and the sets of shingles decide. Memory holds some numbers for
each text and the words of one block; all else is in buckets. What follows from the words of a block alone, and the comparison of
candidates, can be done by other processes.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tasks.core.text.buckets import Buckets
from tasks.core.text.shingles import (
    BANDS,
    MOST,
    PAIRS_AT_ONCE,
    Hashes,
    Indices,
    Shingles,
    Words,
    band_keys,
    distinct,
    equal_pairs,
    frequent_hashes,
    jaccard,
    runs,
    set_keys,
    shingle,
)
from tasks.core.text.texts import Apply, Chosen, Selection, Track, apply_here, joined, untracked

CLASSES_AT_ONCE = 1 << 16
"""Classes whose candidates are one bucket."""
PAIRS_HELD = 1 << 22
"""Candidates of a band that are collected before repeated ones are dropped."""


@dataclass(frozen=True)
class Limits:
    """The limits from which on two texts are near-duplicates."""

    similarity: float
    """The least Jaccard similarity of their sets of shingles."""
    length: int
    """Words of a shingle."""
    fewest: int
    """The least number of shingles of a text that is compared."""
    template: float
    """A shingle that more texts hold belongs to a template, and is in no set."""


@dataclass(frozen=True)
class Likeness:
    """The classes of texts with equal sets of shingles, and those that are near-duplicates of each other."""

    classes: Indices
    """The class of each text; -1 for a text that is not compared."""
    pairs: Indices
    """Pairs of near-duplicate classes, the lower number first; sorted, shape (pairs, 2)."""
    similarities: NDArray[np.float64]
    """The Jaccard similarity of each pair."""

    def similarity(self, first: Indices, second: Indices) -> NDArray[np.float64]:
        """Return the Jaccard similarity of pairs of texts: 1 within a class, 0 where two are no near-duplicates."""
        classes = np.sort(np.stack([self.classes[first], self.classes[second]], axis=1), axis=1)
        total = int(self.classes.max(initial=0)) + 1
        known, codes = self.pairs @ [total, 1], classes @ [total, 1]
        places = np.minimum(np.searchsorted(known, codes), max(0, len(known) - 1))
        similarities = (
            np.where(known[places] == codes, self.similarities[places], 0.0) if len(known) else np.zeros(len(codes))
        )
        similarities[classes[:, 0] == classes[:, 1]] = 1.0
        similarities[classes[:, 0] < 0] = 0.0
        return similarities


def find_near_duplicates(
    selection: Selection,
    limits: Limits,
    ranks: NDArray[np.int8],
    folder: Path,
    track: Track = untracked,
    apply: Apply = apply_here,
    most: int = MOST,
) -> Likeness:
    """Compare the selected texts. `ranks` are theirs; of very many texts alike, all are compared with the `most` of the lowest ranks."""
    templates = common_shingles(selection, limits, apply)
    bands = Buckets(folder / "bands", np.uint64)
    compared, keys = _fill_bands(selection, partial(_banded, limits, templates), bands, track, apply)
    members, classes = _classes(keys, ranks[compared])
    representatives = compared[members]
    candidates = Buckets(folder / "candidates", np.int64)
    for band in track(range(BANDS), BANDS):
        _add_candidates(bands.take(band)[members], ranks[representatives], most, candidates)
    of_texts = np.full(len(selection), -1, np.int64)
    of_texts[compared] = classes
    pairs, similarities = [np.zeros((0, 2), np.int64)], [np.zeros(0)]
    buckets = -(-len(members) // CLASSES_AT_ONCE)
    batches = _batches(map(candidates.take, track(range(buckets), buckets)), representatives, selection)
    for alike, similarity in apply(partial(_alike, limits, templates), batches, buckets):
        pairs.append(alike)
        similarities.append(similarity)
    return Likeness(of_texts, np.concatenate(pairs), np.concatenate(similarities))


def common_shingles(selection: Selection, limits: Limits, apply: Apply = apply_here) -> Hashes:
    """Return, sorted, the shingles that more than `limits.template` texts hold.

    One that exceeds the limit in all texts exceeds its share of the limit in some block: only those are counted, all of them exactly.
    """
    blocks = selection.blocks()
    frequent = np.zeros(0, np.uint64)
    for hashes in apply(partial(_frequent, limits, len(selection)), blocks, len(blocks)):
        frequent = np.union1d(frequent, hashes)
    totals = np.zeros(len(frequent), np.int64)
    for counts in apply(partial(_counts, limits, frequent), blocks, len(blocks)) if len(frequent) else ():
        totals += counts
    return frequent[totals > limits.template]


def _frequent(limits: Limits, num_texts: int, block: Chosen) -> Hashes:
    """Return the shingles that exceed, in a block, its share of the limit of templates in so many texts, and a few that a text repeats."""
    hashes = runs(block.words(), limits.length).hashes
    return frequent_hashes(hashes, limits.template * len(block.numbers) / num_texts)


def _counts(limits: Limits, frequent: Hashes, block: Chosen) -> Indices:
    """Return the number of texts of a block that hold each of these sorted shingles."""
    hashes = runs(block.words(), limits.length).only(frequent).as_sets().hashes
    return np.bincount(np.searchsorted(frequent, hashes), minlength=len(frequent))


def compared_texts(selection: Selection, limits: Limits, apply: Apply = apply_here) -> Indices:
    """Return the places of the texts that have enough shingles to be compared."""
    compared, blocks = partial(_compared, limits, common_shingles(selection, limits, apply)), selection.blocks()
    return np.concatenate([np.zeros(0, np.int64), *apply(compared, blocks, len(blocks))])


def _compared(limits: Limits, templates: Hashes, block: Chosen) -> Indices:
    sizes = _sets(block.words(), limits, templates).sizes
    return np.flatnonzero(sizes >= limits.fewest) + block.places.start


def _sets(words: Words, limits: Limits, templates: Hashes) -> Shingles:
    return shingle(words, limits.length).without(templates)


@dataclass(frozen=True)
class _Banded:
    """The bands of the texts of a block that are compared, and the keys of their sets."""

    places: Indices
    bands: Hashes
    """Shape (BANDS, texts)."""
    keys: Hashes
    """One of each set."""


def _banded(limits: Limits, templates: Hashes, block: Chosen) -> _Banded:
    sets = _sets(block.words(), limits, templates)
    chosen = np.flatnonzero(sets.sizes >= limits.fewest)
    sets = sets.take(chosen)
    return _Banded(chosen + block.places.start, np.ascontiguousarray(band_keys(sets).T), set_keys(sets))


def _fill_bands(
    selection: Selection, banded: Callable[[Chosen], _Banded], bands: Buckets, track: Track, apply: Apply
) -> tuple[Indices, Hashes]:
    """Fill the bucket of each band with the keys of the texts that are compared; return their places and the keys of their sets."""
    compared, keys = [np.zeros(0, np.int64)], [np.zeros(0, np.uint64)]
    blocks = selection.blocks()
    for block in track(apply(banded, blocks, len(blocks)), len(blocks)):
        for band, column in enumerate(block.bands):
            bands.add(band, column)
        compared.append(block.places)
        keys.append(block.keys)
    return np.concatenate(compared), np.concatenate(keys)


def _classes(keys: Hashes, ranks: NDArray[np.int8]) -> tuple[Indices, Indices]:
    """Return the representative of each class of equal keys, and the class of each text.

    The representative is the first text of the lowest rank. Classes are numbered in the order of their representatives.
    """
    order = np.lexsort((ranks, keys))
    ordered = keys[order]
    is_first = np.append(True, ordered[1:] != ordered[:-1])[: len(ordered)]
    representatives = order[is_first]
    numbers = np.empty(len(representatives), np.int64)
    numbers[np.argsort(representatives)] = np.arange(len(representatives))
    classes = np.empty(len(keys), np.int64)
    classes[order] = numbers[np.cumsum(is_first) - 1]
    return np.sort(representatives), classes


def _add_candidates(keys: Hashes, ranks: NDArray[np.int8], most: int, candidates: Buckets) -> None:
    """Put the pairs of classes with equal keys into the bucket of the first class, a pair as one number."""
    total = max(1, len(keys))
    held: list[Indices] = []
    size = 0
    for pairs in equal_pairs(keys, ranks.astype(np.int64), most):
        held.append(pairs.min(axis=1) * total + pairs.max(axis=1))
        size += len(pairs)
        if size > PAIRS_HELD:
            _scatter(np.concatenate(held), total, candidates)
            held, size = [], 0
    if held:
        _scatter(np.concatenate(held), total, candidates)


def _scatter(codes: Indices, total: int, candidates: Buckets) -> None:
    candidates.scatter(codes // total // CLASSES_AT_ONCE, codes)


@dataclass(frozen=True)
class _Batch:
    """Candidates, and the texts that stand for their classes."""

    classes: Indices
    """Pairs of classes, shape (pairs, 2)."""
    pairs: Indices
    """The same pairs, by the places of their texts."""
    texts: Sequence[Chosen]


def _batches(buckets: Iterable[Indices], representatives: Indices, selection: Selection) -> Iterator[_Batch]:
    """Yield the candidates of buckets, some at a time. A pair is one number."""
    total = max(1, len(representatives))
    for codes in map(distinct, buckets):
        for start in range(0, len(codes), PAIRS_AT_ONCE):
            pairs = np.stack(np.divmod(codes[start : start + PAIRS_AT_ONCE], total), axis=1)
            classes = distinct(pairs.ravel())
            yield _Batch(pairs, np.searchsorted(classes, pairs), selection.choose(representatives[classes]))


def _alike(limits: Limits, templates: Hashes, batch: _Batch) -> tuple[Indices, NDArray[np.float64]]:
    """Return the pairs of classes whose sets have at least the similarity of the limits, and that of each."""
    similarities = jaccard(_sets(joined(batch.texts), limits, templates), batch.pairs)
    is_alike = similarities >= limits.similarity
    return batch.classes[is_alike], similarities[is_alike]
