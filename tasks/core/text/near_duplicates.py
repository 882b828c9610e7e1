"""Near-duplicates among very many texts: classes of equal sets of shingles, and the pairs of classes that are alike.

MinHash and its bands find the candidates, one band sorted at a time, and the sets of shingles decide. Memory holds some numbers for
each text and the words of one block; all else is in buckets.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
    contains,
    distinct,
    equal_pairs,
    jaccard,
    set_keys,
    shingle,
)
from tasks.core.text.texts import Selection

CLASSES_AT_ONCE = 1 << 16
"""Classes whose candidates are one bucket."""
PAIRS_HELD = 1 << 22
"""Candidates of a band that are collected before repeated ones are dropped."""
Track = Callable[[Iterable[Any]], Iterable[Any]]


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
    selection: Selection, limits: Limits, ranks: NDArray[np.int8], folder: Path, track: Track, most: int = MOST
) -> Likeness:
    """Compare the selected texts. `ranks` are theirs; of very many texts alike, all are compared with the `most` of the lowest ranks."""
    templates = common_shingles(selection, limits)
    bands = Buckets(folder / "bands", np.uint64)
    compared, keys = _fill_bands(selection, limits, templates, bands, track)
    members, classes = _classes(keys, ranks[compared])
    representatives = compared[members]

    def sets_of(sorted_classes: Indices) -> Shingles:
        return _sets(selection.take(representatives[sorted_classes]), limits, templates)

    candidates = Buckets(folder / "candidates", np.int64)
    for band in track(range(BANDS)):
        _add_candidates(bands.take(band)[members], ranks[representatives], most, candidates)
    buckets = range(-(-len(members) // CLASSES_AT_ONCE))
    alike = [_alike(candidates.take(bucket), len(members), sets_of, limits.similarity) for bucket in track(buckets)]
    of_texts = np.full(len(selection), -1, np.int64)
    of_texts[compared] = classes
    pairs, similarities = [np.zeros((0, 2), np.int64)], [np.zeros(0)]
    for alike_pairs, alike_similarities in alike:
        pairs.append(alike_pairs)
        similarities.append(alike_similarities)
    return Likeness(of_texts, np.concatenate(pairs), np.concatenate(similarities))


def common_shingles(selection: Selection, limits: Limits) -> Hashes:
    """Return, sorted, the shingles that more than `limits.template` texts hold.

    One that exceeds the limit in all texts exceeds its share of the limit in some block: only those are counted, all of them exactly.
    """
    frequent = np.zeros(0, np.uint64)
    for places, words in selection:
        hashes, counts = np.unique(shingle(words, limits.length).hashes, return_counts=True)
        share = (places.stop - places.start) / len(selection)
        frequent = np.union1d(frequent, hashes[counts > limits.template * share])
    totals = np.zeros(len(frequent), np.int64)
    for _, words in selection if len(frequent) else ():
        hashes = shingle(words, limits.length).hashes
        totals += np.bincount(np.searchsorted(frequent, hashes[contains(frequent, hashes)]), minlength=len(frequent))
    return frequent[totals > limits.template]


def compared_texts(selection: Selection, limits: Limits) -> Indices:
    """Return the places of the texts that have enough shingles to be compared."""
    templates = common_shingles(selection, limits)
    compared = [np.zeros(0, np.int64)]
    for places, words in selection:
        compared.append(np.flatnonzero(_sets(words, limits, templates).sizes >= limits.fewest) + places.start)
    return np.concatenate(compared)


def _sets(words: Words, limits: Limits, templates: Hashes) -> Shingles:
    return shingle(words, limits.length).without(templates)


def _fill_bands(
    selection: Selection, limits: Limits, templates: Hashes, bands: Buckets, track: Track
) -> tuple[Indices, Hashes]:
    """Fill the bucket of each band with the keys of the texts that are compared; return their places and the keys of their sets."""
    compared, keys = [np.zeros(0, np.int64)], [np.zeros(0, np.uint64)]
    for places, words in track(selection):
        sets = _sets(words, limits, templates)
        chosen = np.flatnonzero(sets.sizes >= limits.fewest)
        sets = sets.take(chosen)
        for band, column in enumerate(np.ascontiguousarray(band_keys(sets).T)):
            bands.add(band, column)
        compared.append(chosen + places.start)
        keys.append(set_keys(sets))
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


def _alike(
    codes: Indices, total: int, sets_of: Callable[[Indices], Shingles], similarity: float
) -> tuple[Indices, NDArray[np.float64]]:
    """Return the pairs whose sets have at least this similarity, and that of each."""
    codes = distinct(codes)
    pairs = np.stack([codes // max(1, total), codes % max(1, total)], axis=1)
    similarities = np.zeros(len(pairs))
    for start in range(0, len(pairs), PAIRS_AT_ONCE):
        batch = pairs[start : start + PAIRS_AT_ONCE]
        classes = distinct(batch.ravel())
        similarities[start : start + len(batch)] = jaccard(sets_of(classes), np.searchsorted(classes, batch))
    is_alike = similarities >= similarity
    return pairs[is_alike], similarities[is_alike]
