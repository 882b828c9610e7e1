"""Shingles of many texts as arrays of hashes, MinHash band keys, and the pairs of near-duplicates, in NumPy.

A shingle is a run of consecutive words. Sets of shingles are kept as 64-bit hashes: of 10^9 different shingles, two share a hash
with a probability of 3 %, which changes one Jaccard similarity by one shingle.

Source: Broder 1997, On the resemblance and containment of documents (MinHash); Leskovec, Rajaraman, Ullman, Mining of Massive
Datasets, §3.4 (bands of rows).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TypeVar

import numpy as np
import polars as pl
from numpy.typing import NDArray

from tasks.core.text.words import PATTERN, normalised

Hashes = NDArray[np.uint64]
Keys = NDArray[np.uint64] | NDArray[np.uint32]
Indices = NDArray[np.int64]
Ordered = TypeVar("Ordered", np.uint64, np.int64)

PERMUTATIONS = 128
BANDS = 32
"""Number of bands, of four rows each. A pair with a Jaccard similarity of 0.7 shares a band with a probability of 99.98 %, and one of 0.5 with 87 %."""
MOST = 1_000
"""Largest number of texts of one band with which all its other texts are compared."""
PAIRS_AT_ONCE = 100_000
BLOCK = 50_000
"""Number of shingles that are hashed at once."""
SLOTS_A_KEY = 4
ODD = np.uint64(0x9E3779B97F4A7C15)
"""An odd multiplier, which spreads sums of hashes over all bits."""
IS_WORD = np.array([chr(byte).isascii() and chr(byte).isalnum() for byte in range(256)], np.int8)
"""1 for the bytes of letters and digits in ASCII."""
MASKS = np.array([(1 << 8 * size) - 1 for size in range(9)], np.uint64)
"""Masks for the first n bytes of eight, n = 0 to 8."""


@dataclass(frozen=True)
class Shingles:
    """The shingles of some texts, one text after the other. Text `i` has `hashes[offsets[i]:offsets[i + 1]]`."""

    hashes: Hashes
    offsets: Indices
    """Offsets of the texts, one more than there are texts."""

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def sizes(self) -> Indices:
        """Return the number of shingles of each text."""
        return np.diff(self.offsets)

    def without(self, templates: Hashes) -> "Shingles":
        """Return the sets without the shingles in `templates`, which is sorted."""
        return self.select(~contains(templates, self.hashes))

    def only(self, known: Hashes) -> "Shingles":
        """Return the sets with only those shingles that are in `known`, which is sorted."""
        return self.select(contains(known, self.hashes))

    def select(self, is_chosen: NDArray[np.bool_]) -> "Shingles":
        """Return the sets with only the chosen shingles."""
        before = np.concatenate([[0], np.cumsum(is_chosen)])
        return Shingles(self.hashes[is_chosen], before[self.offsets])

    def as_sets(self) -> "Shingles":
        """Return the shingles of each text without its repeated ones."""
        marked = _by_set(self)
        repeated = [np.zeros(0, np.int64)]
        for texts in _blocks(self.offsets):
            first, last = self.offsets[texts.start], self.offsets[texts.stop]
            repeated.append(may_repeat(marked[first:last]) + first)
        places = np.concatenate(repeated)
        ordered = np.sort(marked[places])
        places = places[contains(distinct(ordered[1:][ordered[1:] == ordered[:-1]]), marked[places])]
        if not len(places):
            return self
        is_first = np.ones(len(self.hashes), bool)
        is_first[places] = False
        is_first[places[np.unique(marked[places], return_index=True)[1]]] = True
        return self.select(is_first)

    @property
    def texts(self) -> Indices:
        """Return the number of the text of each shingle."""
        return np.repeat(np.arange(len(self)), self.sizes)

    def take(self, texts: Indices) -> "Shingles":
        """Return the sets of these texts, in this order."""
        return Shingles(*_taken(self.hashes, self.offsets, texts))


@dataclass(frozen=True)
class Words:
    """The words of some texts in their order, as hashes. Text `i` has `hashes[offsets[i]:offsets[i + 1]]`."""

    hashes: Hashes
    offsets: Indices

    @property
    def counts(self) -> Indices:
        """Return the number of words of each text."""
        return np.diff(self.offsets)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def take(self, texts: Indices) -> "Words":
        """Return the words of these texts, in this order."""
        return Words(*_taken(self.hashes, self.offsets, texts))


def hash_words(contents: Sequence[str]) -> Words:
    """Return the words of each text in the normalised form of `tasks.core.text.words`. A combining mark belongs to its word."""
    contents = [normalised(content) for content in contents]
    is_ascii = np.array([content.isascii() for content in contents], bool)
    plain = _ascii_words([content for content in contents if content.isascii()])
    if is_ascii.all():
        return plain
    others = _unicode_words([content for content in contents if not content.isascii()])
    together = Words(
        np.concatenate([plain.hashes, others.hashes]), _offsets(np.concatenate([plain.counts, others.counts]))
    )
    return together.take(np.argsort(np.argsort(~is_ascii, kind="stable")))


def _ascii_words(contents: Sequence[str]) -> Words:
    """Return the words of texts in ASCII: runs of letters and digits, found in all texts at once."""
    data = np.frombuffer("\n".join(contents).lower().encode("ascii"), np.uint8)
    is_word = np.zeros(len(data) + 2, np.int8)
    is_word[1:-1] = IS_WORD[data]
    starts, ends = np.flatnonzero(np.diff(is_word)).reshape(-1, 2).T
    ends_of_texts = np.cumsum([len(content) + 1 for content in contents], dtype=np.int64)
    offsets = np.searchsorted(starts, np.concatenate([[0], ends_of_texts]))
    return Words(_byte_hashes(data, starts, ends - starts), offsets.astype(np.int64))


def _unicode_words(contents: Sequence[str]) -> Words:
    """Return the words of any texts."""
    words = pl.Series([content.casefold() for content in contents], dtype=pl.String).str.extract_all(PATTERN)
    counts = words.list.len().to_numpy().astype(np.int64)
    encoded = words.filter(counts > 0).explode().cast(pl.Binary)
    data = np.frombuffer(b"".join(encoded), np.uint8)
    sizes = encoded.bin.size().to_numpy().astype(np.int64)
    return Words(_byte_hashes(data, _offsets(sizes)[:-1], sizes), _offsets(counts))


def _byte_hashes(data: NDArray[np.uint8], starts: Indices, sizes: Indices) -> Hashes:
    """Return a 64-bit hash of each run of bytes, computed eight bytes at a time. It is the same on every machine."""
    padded = np.concatenate([data, np.zeros(8, np.uint8)])
    eights = np.lib.stride_tricks.sliding_window_view(padded, 8)
    hashes, pending = sizes.astype(np.uint64), np.arange(len(sizes))
    passed = 0
    while len(pending):
        remaining = sizes[pending] - passed
        values = eights[starts[pending] + passed].view("<u8").ravel() & MASKS[np.minimum(remaining, 8)]
        values += hashes[pending] * ODD
        _mix_in_place(values)
        hashes[pending] = values
        pending, passed = pending[remaining > 8], passed + 8
    return hashes


def shingle(words: Words, length: int) -> Shingles:
    """Return the set of runs of `length` words of each text. A shorter text has none."""
    return runs(words, length).as_sets()


def runs(words: Words, length: int) -> Shingles:
    """Return all runs of `length` words of each text, including repeated ones."""
    combined = _combined(words.hashes, length)
    is_within = np.ones(len(combined), bool)
    for words_left in range(1, length):  # a run that begins closer to the end of a text would extend into the next one
        places = words.offsets[1:] - words_left
        is_within[places[(places >= 0) & (places < len(combined))]] = False
    return Shingles(combined[is_within], _offsets(np.maximum(words.counts - length + 1, 0)))


def _combined(hashes: Hashes, length: int) -> Hashes:
    """Return a hash of each run of `length` hashes, including runs across the ends of texts. Blocks fit the processor's cache.

    It is a polynomial in an odd number, modulo 2^64. Its prefix sums give the hash of every run, of any length.
    """
    combined = np.zeros(max(0, len(hashes) - length + 1), np.uint64)
    powers, inverses = _powers(BLOCK + length)
    for start in range(0, len(combined), BLOCK):
        block = combined[start : start + BLOCK]
        sums = np.zeros(len(block) + length, np.uint64)
        terms = sums[1:]
        np.multiply(hashes[start : start + len(terms)], powers[: len(terms)], out=terms)
        np.cumsum(terms, out=terms)
        np.subtract(sums[length:], sums[:-length], out=block)
        block *= inverses[: len(block)]
        _mix_in_place(block)
    return combined


@cache
def _powers(number: int) -> tuple[Hashes, Hashes]:
    """Return the first `number` powers of `ODD`, from 0 up, and of its inverse modulo 2^64."""
    inverse = pow(int(ODD), -1, 1 << 64)
    both = []
    for base in (int(ODD), inverse):
        powers = np.full(number, base, np.uint64)
        powers[0] = 1
        both.append(np.multiply.accumulate(powers))
    return both[0], both[1]


def distinct(values: NDArray[Ordered]) -> NDArray[Ordered]:
    """Return the distinct values, sorted. `np.unique` hashes them, which takes several times as long as sorting."""
    ordered = np.sort(values)
    return ordered[np.append(True, ordered[1:] != ordered[:-1])[: len(ordered)]]


def contains(ordered: Hashes, hashes: Hashes) -> NDArray[np.bool_]:
    """Return True for each of `hashes` that is in `ordered`, a sorted array."""
    if not len(ordered):
        return np.zeros(len(hashes), dtype=bool)
    return ordered[np.minimum(np.searchsorted(ordered, hashes), len(ordered) - 1)] == hashes


def may_repeat(keys: Keys) -> Indices:
    """Return the sorted indices of all keys that occur several times, and of a few that do not.

    Keys that are alone in their slot of a hash table are left out. This takes a fraction of the time of sorting the keys.
    """
    slots, num_slots = _slots(keys, SLOTS_A_KEY)
    places = np.arange(len(keys), dtype=np.int32)
    last = np.zeros(num_slots, np.int32)
    last[slots] = places
    is_shared = np.zeros(num_slots, bool)
    is_shared[slots[last[slots] != places]] = True
    return np.flatnonzero(is_shared[slots])


def may_be_among(known: Hashes, hashes: Hashes) -> NDArray[np.bool_]:
    """Return True for each of `hashes` that is in `known`, and for a few others."""
    slots, num_slots = _slots(known, SLOTS_A_KEY)
    is_known = np.zeros(num_slots, bool)
    is_known[slots] = True
    return is_known[_slot(hashes, num_slots)]


def frequent_hashes(hashes: Hashes, limit: float) -> Hashes:
    """Return the sorted hashes that occur more than `limit` times."""
    slots, num_slots = _slots(hashes, 1)
    chosen = hashes[np.bincount(slots, minlength=num_slots)[slots] > limit]
    values, counts = np.unique(chosen, return_counts=True)
    return values[counts > limit]


def _slots(keys: Keys, slots_a_key: int) -> tuple[Indices, int]:
    """Return the slot of each key in a table with about `SLOTS_A_KEY` slots per key, and the number of slots."""
    num_slots = 1 << max(1, len(keys) * slots_a_key).bit_length()
    return _slot(keys, num_slots), num_slots


def _slot(keys: Keys, num_slots: int) -> Indices:
    """Return the slot of each key in a table whose number of slots is a power of two."""
    return ((keys * ODD) >> np.uint64(65 - num_slots.bit_length())).astype(np.int64)


def band_keys(sets: Shingles) -> Hashes:
    """Return the keys of the bands of each text, (texts, BANDS): equal keys mean equal minima of four permutations.

    Every text must have a shingle.
    """
    draw = np.random.default_rng(0)
    # Odd multipliers permute 32-bit numbers. Minima are then decided by the high bits, which depend on all lower bits.
    multipliers = draw.integers(0, 2**31, PERMUTATIONS, dtype=np.uint32) * np.uint32(2) + np.uint32(1)
    shifts = draw.integers(0, 2**32, PERMUTATIONS, dtype=np.uint32)
    hashes = (sets.hashes >> np.uint64(32)).astype(np.uint32)
    keys = np.zeros((len(sets), BANDS), dtype=np.uint64)
    for rows in _blocks(sets.offsets):
        first, last = sets.offsets[rows.start], sets.offsets[rows.stop]
        block, starts = hashes[first:last], sets.offsets[rows] - first
        for number in range(PERMUTATIONS):
            minima = np.minimum.reduceat(block * multipliers[number] + shifts[number], starts)
            band = keys[rows, number % BANDS]
            keys[rows, number % BANDS] = _mix(band * ODD + minima)
    return keys


def _blocks(offsets: Indices) -> Iterator[slice]:
    """Yield consecutive ranges of texts with about `BLOCK` shingles each, which fit the processor's cache."""
    start, texts = 0, len(offsets) - 1
    while start < texts:
        stop = int(np.searchsorted(offsets, offsets[start] + BLOCK, side="right")) - 1
        stop = min(max(stop, start + 1), texts)
        yield slice(start, stop)
        start = stop


def equal_pairs(keys: Keys, ranks: Indices, most: int) -> Iterator[Indices]:
    """Yield pairs of texts with equal keys as arrays of shape (pairs, 2), the text with the lower rank first.

    If more than `most` texts have one key, each is paired only with the `most` of the lowest ranks, so that the number of pairs
    grows linearly with the number of texts.
    """
    places = may_repeat(keys)
    order = places[np.lexsort((ranks[places], keys[places]))]  # stable: of equal ranks, the earlier text comes first
    ordered = keys[order]
    starts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]])[: len(ordered)])
    sizes = np.diff(np.append(starts, len(ordered)))
    for place in range(most):
        starts, sizes = starts[sizes > place + 1], sizes[sizes > place + 1]
        if not len(starts):
            return
        later = sizes - place - 1
        first = np.repeat(starts + place, later)
        steps = np.arange(later.sum()) - np.repeat(_offsets(later)[:-1], later)
        yield order[np.stack([first, first + 1 + steps], axis=1)]


def jaccard(sets: Shingles, pairs: Indices) -> NDArray[np.float64]:
    """Return the Jaccard similarity of each pair of texts, from their whole sets of shingles."""
    similarities = np.zeros(len(pairs))
    for start in range(0, len(pairs), PAIRS_AT_ONCE):
        batch = pairs[start : start + PAIRS_AT_ONCE]
        first, second = sets.take(batch[:, 0]), sets.take(batch[:, 1])
        other = np.sort(_by_set(second))
        common = np.add.reduceat(contains(other, _by_set(first)).astype(np.int64), first.offsets[:-1])
        similarities[start : start + len(batch)] = common / (first.sizes + second.sizes - common)
    return similarities


def set_keys(sets: Shingles) -> Hashes:
    """Return a hash of each set, independent of the order of its shingles. Every text must have a shingle."""
    return np.add.reduceat(_mix(sets.hashes), sets.offsets[:-1]) if len(sets) else np.zeros(0, np.uint64)


def _by_set(sets: Shingles) -> Hashes:
    """Return hashes that also depend on the number of their set, so that one sorted array serves all sets."""
    numbers = np.repeat(np.arange(1, len(sets) + 1, dtype=np.uint64), sets.sizes)
    return sets.hashes ^ _mix(numbers * ODD)


def _taken(hashes: Hashes, offsets: Indices, texts: Indices) -> tuple[Hashes, Indices]:
    """Return the hashes of these texts, one after the other, and their offsets."""
    if len(texts) == len(offsets) - 1 and np.array_equal(texts, np.arange(len(texts))):
        return hashes, offsets
    sizes = np.diff(offsets)[texts]
    chosen = _offsets(sizes)
    if 4 * chosen[-1] > offsets[-1] and (np.diff(texts) > 0).all():
        # A mask is faster than indices if it selects many of them in order.
        is_taken = np.zeros(len(offsets) - 1, bool)
        is_taken[texts] = True
        return hashes[np.repeat(is_taken, np.diff(offsets))], chosen
    within = np.arange(chosen[-1]) - np.repeat(chosen[:-1], sizes)
    return hashes[np.repeat(offsets[texts], sizes) + within], chosen


def _offsets(sizes: Indices) -> Indices:
    return np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(sizes, dtype=np.int64)])


def _mix(values: Hashes) -> Hashes:
    """Spread each value over all 64 bits (the finaliser of SplitMix64: Steele, Lea, Flood 2014)."""
    mixed = values.copy()
    _mix_in_place(mixed)
    return mixed


def _mix_in_place(values: Hashes) -> None:
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        values ^= values >> np.uint64(shift)
        values *= np.uint64(factor)
    values ^= values >> np.uint64(31)
