"""Near-duplicates among very many texts: classes of equal sets of shingles, and the pairs of classes that are alike.

MinHash and its bands find the candidates, one band sorted at a time, and the sets of shingles decide. Memory holds some numbers for
each text and the words of one block; all else is in buckets. What follows from the words of a block alone can be done by other processes,
or be kept from an earlier run; the comparison of candidates can be done by other processes.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tasks.core.text.arrays import Buckets
from tasks.core.text.shingles import (
    BANDS,
    MOST,
    PAIRS_AT_ONCE,
    Hashes,
    Indices,
    Keys,
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
FREQUENT = np.dtype([("hash", np.uint64), ("count", np.int64)])
"""A shingle of a block, and the number of its texts that hold it."""
BANDED = np.dtype([("place", np.int32), ("set", np.uint64), ("bands", np.uint32, (BANDS,))])
"""The place of a text in its block, a key of its set, and those of its bands."""
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
    known: Apply | None = None,
) -> Likeness:
    """Compare the selected texts. `ranks` are theirs; of very many texts alike, all are compared with the `most` of the lowest ranks.

    `known` applies the functions whose result follows from a block alone, and may take it from an earlier run.
    """
    known = known or apply
    templates = common_shingles(selection, limits, apply, known)
    bands = Buckets(folder / "bands", np.uint32)
    compared, keys = _fill_bands(
        selection, partial(_banded, limits.length, limits.fewest, templates), bands, track, known
    )
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


def common_shingles(
    selection: Selection, limits: Limits, apply: Apply = apply_here, known: Apply | None = None
) -> Hashes:
    """Return, sorted, the shingles that more than `limits.template` texts hold.

    Of each block those are listed, with their counts, that hold more than half of its share of the limit. What a block does not list is at most
    that half, so few shingles can be over the limit without being listed everywhere: these alone are counted where they are missing.
    """
    blocks = selection.blocks()
    share = _rounded_down(limits.template / (2 * max(1, len(selection))))
    lists = list((known or apply)(partial(_frequent, limits.length, share), blocks, len(blocks)))
    unlisted = share * np.array([len(block.numbers) for block in blocks])
    listed = np.concatenate([np.zeros(0, FREQUENT), *lists])
    hashes, places = np.unique(listed["hash"], return_inverse=True)
    totals = np.bincount(places, listed["count"], len(hashes)).astype(np.int64)
    room = np.bincount(places, np.repeat(unlisted, [len(one) for one in lists]), len(hashes))
    is_open = totals + (unlisted.sum() - room) > limits.template
    hashes, totals = hashes[is_open], totals[is_open]
    sought = [
        _Sought(block, missing)
        for block, one in zip(blocks, lists, strict=True)
        if len(missing := np.setdiff1d(hashes, one["hash"]))
    ]
    for one, counts in zip(sought, apply(partial(_counts, limits.length), sought, len(sought)), strict=True):
        totals[np.searchsorted(hashes, one.hashes)] += counts
    return hashes[totals > limits.template]


def _rounded_down(share: float) -> float:
    """Return a share with four binary digits, at most the given one: it stays the same while texts grow in number by a little."""
    mantissa, exponent = np.frexp(share)
    return float(np.ldexp(np.floor(mantissa * 16) / 16, exponent))


def _frequent(length: int, share: float, block: Chosen) -> NDArray[np.void]:
    """Return, sorted, the shingles that more than this share of the texts of a block hold, as `FREQUENT`."""
    all_runs = runs(block.words(), length)
    limit = share * len(block.numbers)
    values, counts = np.unique(
        all_runs.only(frequent_hashes(all_runs.hashes, limit)).as_sets().hashes, return_counts=True
    )
    frequent = np.empty(int((counts > limit).sum()), FREQUENT)
    frequent["hash"], frequent["count"] = values[counts > limit], counts[counts > limit]
    return frequent


@dataclass(frozen=True)
class _Sought:
    """Shingles that are to be counted in a block."""

    block: Chosen
    hashes: Hashes
    """Sorted."""


def _counts(length: int, sought: _Sought) -> Indices:
    """Return the number of texts that hold each of the shingles."""
    hashes = runs(sought.block.words(), length).only(sought.hashes).as_sets().hashes
    return np.bincount(np.searchsorted(sought.hashes, hashes), minlength=len(sought.hashes))


def compared_texts(selection: Selection, limits: Limits, apply: Apply = apply_here) -> Indices:
    """Return the places of the texts that have enough shingles to be compared."""
    compared, blocks = partial(_compared, limits, common_shingles(selection, limits, apply)), selection.blocks()
    return np.concatenate([np.zeros(0, np.int64), *apply(compared, blocks, len(blocks))])


def _compared(limits: Limits, templates: Hashes, block: Chosen) -> Indices:
    sizes = _sets(block.words(), limits.length, templates).sizes
    return np.flatnonzero(sizes >= limits.fewest) + block.places.start


def _sets(words: Words, length: int, templates: Hashes) -> Shingles:
    return shingle(words, length).without(templates)


def _banded(length: int, fewest: int, templates: Hashes, block: Chosen) -> NDArray[np.void]:
    """Return the texts of a block that are compared, as `BANDED`."""
    sets = _sets(block.words(), length, templates)
    chosen = np.flatnonzero(sets.sizes >= fewest)
    sets = sets.take(chosen)
    banded = np.empty(len(chosen), BANDED)
    banded["place"], banded["set"] = chosen, set_keys(sets)
    banded["bands"] = band_keys(sets) >> np.uint64(32)
    return banded


def _fill_bands(
    selection: Selection, banded: Callable[[Chosen], NDArray[np.void]], bands: Buckets, track: Track, apply: Apply
) -> tuple[Indices, Hashes]:
    """Fill the bucket of each band with the keys of the texts that are compared; return their places and the keys of their sets."""
    compared, keys = [np.zeros(0, np.int64)], [np.zeros(0, np.uint64)]
    blocks = selection.blocks()
    for block, texts in zip(blocks, track(apply(banded, blocks, len(blocks)), len(blocks)), strict=True):
        for band, column in enumerate(np.ascontiguousarray(texts["bands"].T)):
            bands.add(band, column)
        compared.append(texts["place"].astype(np.int64) + block.places.start)
        keys.append(texts["set"])
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


def _add_candidates(keys: Keys, ranks: NDArray[np.int8], most: int, candidates: Buckets) -> None:
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
    similarities = jaccard(_sets(joined(batch.texts), limits.length, templates), batch.pairs)
    is_alike = similarities >= limits.similarity
    return batch.classes[is_alike], similarities[is_alike]
