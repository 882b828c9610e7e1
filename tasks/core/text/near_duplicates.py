"""Near-duplicates among very many texts: classes of texts with equal sets of shingles, and the pairs of similar classes.

MinHash bands find the candidates, with one band sorted at a time, and then the sets of shingles are compared exactly. Memory holds a few numbers
for each text and the words of one block. Everything else is in buckets on disk. Other processes can do the work that depends on one block only, and
its results can be kept for later runs. Other processes can also compare candidates.
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
"""Number of classes whose candidates form one bucket."""
FREQUENT = np.dtype([("hash", np.uint64), ("count", np.int64)])
"""A shingle, and the number of the block's texts that contain it."""
BANDED = np.dtype([("place", np.int32), ("set", np.uint64), ("bands", np.uint32, (BANDS,))])
"""The index of a text in its block, the key of its set of shingles, and the keys of its bands."""
PAIRS_HELD = 1 << 22
"""Number of candidates of a band that are collected before duplicates are removed."""


@dataclass(frozen=True)
class Limits:
    """The limits above which two texts are near-duplicates."""

    similarity: float
    """Smallest Jaccard similarity of their sets of shingles."""
    length: int
    """Number of words of a shingle."""
    fewest: int
    """Smallest number of shingles of a text that is compared."""
    template: float
    """A shingle in more texts than this belongs to a template and is removed from all sets."""


@dataclass(frozen=True)
class Likeness:
    """The classes of texts with equal sets of shingles, and the pairs of classes that are near-duplicates."""

    classes: Indices
    """The class of each text; -1 for a text that is not compared."""
    pairs: Indices
    """Pairs of near-duplicate classes, the lower number first, sorted, of shape (pairs, 2)."""
    similarities: NDArray[np.float64]
    """The Jaccard similarity of each pair."""

    def similarity(self, first: Indices, second: Indices) -> NDArray[np.float64]:
        """Return the Jaccard similarity of pairs of texts: 1 within a class, 0 for texts that are not near-duplicates."""
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
    """Compare the selected texts, whose ranks are `ranks`. Of very many similar texts, each is compared with the `most` of the lowest ranks.

    `known` applies functions whose result depends on one block only. It may return results of an earlier run.
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
    """Return the sorted shingles that occur in more than `limits.template` texts.

    Each block lists its shingles that occur in more than half of the block's share of the limit, with their counts. An unlisted shingle contributes at
    most that half. So only few shingles can exceed the limit without being listed everywhere, and only these are counted in the other blocks.
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
    """Return a share rounded down to four binary digits, so that it stays the same when the number of texts grows a little."""
    mantissa, exponent = np.frexp(share)
    return float(np.ldexp(np.floor(mantissa * 16) / 16, exponent))


def _frequent(length: int, share: float, block: Chosen) -> NDArray[np.void]:
    """Return the sorted shingles that occur in more than this share of a block's texts, as `FREQUENT`."""
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
    """Shingles that must be counted in a block."""

    block: Chosen
    hashes: Hashes
    """Sorted."""


def _counts(length: int, sought: _Sought) -> Indices:
    """Return the number of texts that contain each of the shingles."""
    hashes = runs(sought.block.words(), length).only(sought.hashes).as_sets().hashes
    return np.bincount(np.searchsorted(sought.hashes, hashes), minlength=len(sought.hashes))


def compared_texts(selection: Selection, limits: Limits, apply: Apply = apply_here) -> Indices:
    """Return the indices of the texts that have enough shingles to be compared."""
    compared, blocks = partial(_compared, limits, common_shingles(selection, limits, apply)), selection.blocks()
    return np.concatenate([np.zeros(0, np.int64), *apply(compared, blocks, len(blocks))])


def _compared(limits: Limits, templates: Hashes, block: Chosen) -> Indices:
    sizes = _sets(block.words(), limits.length, templates).sizes
    return np.flatnonzero(sizes >= limits.fewest) + block.places.start


def _sets(words: Words, length: int, templates: Hashes) -> Shingles:
    return shingle(words, length).without(templates)


def _banded(length: int, fewest: int, templates: Hashes, block: Chosen) -> NDArray[np.void]:
    """Return the compared texts of a block, as `BANDED`."""
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
    """Fill the bucket of each band with the keys of the compared texts. Return their indices and the keys of their sets."""
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

    The representative is the first text with the lowest rank. Classes are numbered in the order of their representatives.
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
    """Put the pairs of classes with equal keys into the bucket of the first class. A pair is one number."""
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
    """Candidate pairs, and the texts that represent their classes."""

    classes: Indices
    """Pairs of classes, shape (pairs, 2)."""
    pairs: Indices
    """The same pairs, by the indices of their texts."""
    texts: Sequence[Chosen]


def _batches(buckets: Iterable[Indices], representatives: Indices, selection: Selection) -> Iterator[_Batch]:
    """Yield the candidates of buckets in batches. A pair is one number."""
    total = max(1, len(representatives))
    for codes in map(distinct, buckets):
        for start in range(0, len(codes), PAIRS_AT_ONCE):
            pairs = np.stack(np.divmod(codes[start : start + PAIRS_AT_ONCE], total), axis=1)
            classes = distinct(pairs.ravel())
            yield _Batch(pairs, np.searchsorted(classes, pairs), selection.choose(representatives[classes]))


def _alike(limits: Limits, templates: Hashes, batch: _Batch) -> tuple[Indices, NDArray[np.float64]]:
    """Return the pairs of classes whose sets have at least the similarity in `limits`, and the similarity of each pair."""
    similarities = jaccard(_sets(joined(batch.texts), limits.length, templates), batch.pairs)
    is_alike = similarities >= limits.similarity
    return batch.classes[is_alike], similarities[is_alike]
