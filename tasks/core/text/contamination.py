"""Detection of training texts that overlap an evaluation text, by shared n-grams."""

import math
import tempfile
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.core.records import Example
from tasks.core.text import arrays
from tasks.core.text.arrays import Buckets
from tasks.core.text.contamination_config import Contamination
from tasks.core.text.shingles import Indices, Shingles, contains, may_be_among, runs, shingle
from tasks.core.text.texts import Apply, Chosen, Selection, Texts, Track, apply_here, untracked

FEWEST = 3
"""Smallest number of common runs that count. Fewer may be chance, whatever share of a text they are, unless they are all runs of a short evaluation text."""
RUN = np.dtype([("hash", np.uint64), ("text", np.int64)])
"""The hash of a run of words, and the index of its text."""
RUNS_AT_ONCE = 1 << 23
"""Number of runs of evaluation texts that are joined at once."""
TEXTS_AT_ONCE = 1 << 17
"""Number of training texts whose pairs are counted at once."""
TEMPLATE = 10
"""A long evaluation text is a common template, not a leak, if more than one in this number of training texts contains it."""
FILTER = "filter.npy"
FEWEST_BITS, MOST_BITS, BITS_A_RUN = 12, 31, 16
"""Size of the filter as powers of two, and its bits for each run. Of the runs that occur in no evaluation text, one in 16 passes it."""


def sides(examples: Sequence[Example]) -> list[str]:
    """Return all prompts, then all responses."""
    prompts = [comparable(example, prompt_of(example)) for example in examples]
    return prompts + [comparable(example, example.response) for example in examples]


def comparable(example: Example, text: str) -> str:
    """Return the text to compare. It is empty for generated tasks, which share their wording and differ in numbers."""
    return "" if example.tests is not None and example.tests.kind == "answer" else text


def prompt_of(example: Example) -> str:
    """Return all messages before the response as one text, including earlier answers, tool calls and their results."""
    return "\n".join(text for message in example.prompt for text in message.texts)


def overlaps(
    training: Sequence[str], evaluation: Sequence[str], params: Contamination, known: int | None = None
) -> dict[int, int]:
    """Map the position of each contaminated training text to that of the evaluation text with the largest overlap; see `find_overlaps`."""
    with tempfile.TemporaryDirectory() as folder:
        trained, held_out = (Selection.all(Texts.of(contents)) for contents in (training, evaluation))
        return find_overlaps(trained, held_out, params, Path(folder), known=known)


def find_overlaps(
    training: Selection,
    evaluation: Selection,
    params: Contamination,
    folder: Path,
    track: Track = untracked,
    apply: Apply = apply_here,
    known: int | None = None,
) -> dict[int, int]:
    """Map the index of each contaminated training text to that of the evaluation text with the largest overlap.

    Two texts overlap if they share at least `share` of the n-grams ("runs") of the shorter one. The rules are:

    - A run has `ngram` words, or half as many if one of the texts is short.
    - An evaluation text of fewer than `FEWEST` runs must be contained as a whole. One with fewer words than a run is not judged.
    - A run in many training texts is a phrase and does not count. An evaluation text of at least twice `ngram` words that is contained as a whole is
      a leak in any number of training texts, unless it is a template by `TEMPLATE`.
    - Phrases and templates are determined from the first `known` training texts (default: all), because freshly generated texts may repeat a leak.

    Runs of both sides are joined by their hashes, a range of hashes at a time, in buckets below `folder`. Those of training texts are computed and
    filtered a block at a time, in other processes if `apply` has any.
    """
    lengths = _lengths(training), _lengths(evaluation)
    known = len(training) if known is None else known
    best: dict[int, tuple[float, int]] = {}
    for size in (params.ngram, params.ngram // 2):
        join = _Join(*lengths, size, params, folder / f"runs-{size}", known)
        join.add_evaluation(evaluation.blocks())
        join.add_training(training.blocks(), track, apply)
        pairs = list(join.overlaps(training))
        if size == params.ngram and len(repeated := join.repeated()):
            again = params.model_copy(update={"share": 1.0, "common": max(params.common, known // TEMPLATE)})
            join = _Join(*lengths, size, again, folder / "repeated", known, whole=True)
            join.add_evaluation(evaluation.blocks(), repeated)
            join.add_training(training.blocks(), track, apply)
            pairs += join.overlaps(training)
        for train_index, eval_index, share in pairs:
            best[train_index] = max(best.get(train_index, (0.0, 0)), (share, eval_index))
    return {train_index: best[train_index][1] for train_index in sorted(best)}


def _lengths(selection: Selection) -> Indices:
    """Return the number of words of each text."""
    return np.concatenate([np.zeros(0, np.int64), *(block.lengths() for block in selection.blocks())])


class _Join:
    """The join of training and evaluation texts by their common runs of one size, which finds the pairs of texts that share many runs."""

    def __init__(
        self,
        training: Indices,
        evaluation: Indices,
        size: int,
        params: Contamination,
        folder: Path,
        known: int,
        *,
        whole: bool = False,
    ) -> None:
        """`training` and `evaluation` are the numbers of words of each text. The first `known` training texts determine the phrases. With `whole`, an evaluation
        text must be contained as a whole."""
        self._size, self._params, self._known, self._whole = size, params, known, whole
        self._lengths = training, evaluation
        self._phrases = np.zeros(len(training), np.int64)
        """Number of runs of each training text that are phrases."""
        self._runs = np.zeros(len(evaluation), np.int64)
        """Number of runs of each evaluation text that are not phrases."""
        num_runs = int(np.maximum(evaluation - size + 1, 0).sum())
        self._range_bits = max(0, math.ceil(math.log2(max(1, num_runs) / RUNS_AT_ONCE)))
        self._filter_bits = min(max(FEWEST_BITS, math.ceil(math.log2(max(1, num_runs) * BITS_A_RUN))), MOST_BITS)
        self._folder = folder
        self._held = Buckets(folder / "training", RUN), Buckets(folder / "evaluation", RUN)
        self._pairs = Buckets(folder / "pairs", np.int64)

    def add_evaluation(self, blocks: Sequence[Chosen], places: Indices | None = None) -> None:
        """Put the runs of evaluation texts (of all, or of those at `places`) into buckets and into the filter."""
        bits = np.zeros(1 << (self._filter_bits - 3), np.uint8)
        for block in blocks:
            sets = shingle(block.words(), self._size)
            self._runs[block.places] = sets.sizes
            placed = _placed(sets, block)
            if places is not None:
                placed = placed[np.isin(placed["text"], places)]
            bit = placed["hash"] >> np.uint64(64 - self._filter_bits)
            np.bitwise_or.at(bits, bit >> np.uint64(3), np.uint8(1) << (bit & np.uint64(7)).astype(np.uint8))
            self._held[1].scatter(self._ranges(placed), placed)
        self._folder.mkdir(parents=True, exist_ok=True)
        arrays.save(self._folder / FILTER, bits)

    def add_training(self, blocks: Sequence[Chosen], track: Track, apply: Apply) -> None:
        """Put the runs of training texts that pass the filter into buckets. Nearly all runs without a counterpart in evaluation texts are left out."""
        passing = partial(_passing, self._size, self._folder / FILTER, self._filter_bits)
        for placed in track(apply(passing, blocks, len(blocks)), len(blocks)):
            self._held[0].scatter(self._ranges(placed), placed)

    def overlaps(self, training: Selection) -> Iterator[tuple[int, int, float]]:
        """Yield for each overlapping pair the index of the training text, that of the evaluation text, and the share of common runs."""
        for number in range(1 << self._range_bits):
            self._join(self._held[0].take(number), self._held[1].take(number))
        total = max(1, len(self._lengths[1]))
        for number in range(-(-len(self._lengths[0]) // TEXTS_AT_ONCE)):
            codes, common = np.unique(self._pairs.take(number), return_counts=True)
            train, held_out = codes // total, codes % total
            is_enough = (common >= FEWEST) | self._is_whole(train, held_out, common)
            train, held_out, common = train[is_enough], held_out[is_enough], common[is_enough]
            num_runs = self._runs[held_out]
            if not self._whole:
                num_runs = np.minimum(num_runs, self._num_runs(training, train))
            shares = common / num_runs
            counted = shares >= self._params.share
            yield from zip(train[counted].tolist(), held_out[counted].tolist(), shares[counted].tolist(), strict=True)

    def repeated(self) -> Indices:
        """Return the indices of the long evaluation texts whose runs were all phrases. Call it after `overlaps`."""
        is_long = self._lengths[1] >= 2 * self._params.ngram
        return np.flatnonzero(is_long & (self._runs == 0))

    def _num_runs(self, training: Selection, places: Indices) -> Indices:
        """Return the number of runs, without phrases, of the training texts at these sorted indices."""
        texts, numbers = np.unique(places, return_inverse=True)
        counts = [shingle(block.words(), self._size).sizes for block in training.choose(texts)]
        return (np.concatenate([np.zeros(0, np.int64), *counts]) - self._phrases[texts])[numbers]

    def _is_whole(self, train: Indices, held_out: Indices, common: Indices) -> NDArray[np.bool_]:
        """Return True for pairs whose evaluation text has fewer than `FEWEST` runs and shares all of them."""
        num_runs = self._lengths[1][held_out] - self._size + 1
        result: NDArray[np.bool_] = (
            (num_runs < FEWEST) & (common == num_runs) & (self._lengths[1][held_out] <= self._lengths[0][train])
        )
        return result

    def _ranges(self, placed: NDArray[np.void]) -> Indices:
        """Return the number of each run's range of hashes, which is its bucket."""
        return ((placed["hash"] >> np.uint64(32)) >> np.uint64(32 - self._range_bits)).astype(np.int64)

    def _join(self, training: NDArray[Any], evaluation: NDArray[Any]) -> None:
        """Collect the pairs of texts with a common run. Phrases are left out."""
        training = training[may_be_among(evaluation["hash"], training["hash"])]
        # The others need not be sorted.
        evaluation = evaluation[may_be_among(training["hash"], evaluation["hash"])]
        training, evaluation = (side[np.argsort(side["hash"], kind="stable")] for side in (training, evaluation))
        held_out_hashes = np.ascontiguousarray(evaluation["hash"])
        training = training[contains(held_out_hashes, training["hash"])]
        hashes, counts = np.unique(training["hash"], return_counts=True)
        known_holders = np.add.reduceat((training["text"] < self._known).astype(np.int64), np.cumsum(counts) - counts)
        is_phrase = np.repeat(known_holders > self._params.common, counts)
        np.add.at(self._phrases, training["text"][is_phrase], 1)
        phrases = hashes[known_holders > self._params.common]
        np.subtract.at(self._runs, evaluation["text"][contains(phrases, held_out_hashes)], 1)
        training = training[~is_phrase]
        first = np.searchsorted(held_out_hashes, training["hash"], side="left")
        holders = np.searchsorted(held_out_hashes, training["hash"], side="right") - first
        places = np.repeat(first, holders) + np.arange(holders.sum()) - np.repeat(np.cumsum(holders) - holders, holders)
        train, held_out = np.repeat(training["text"], holders), evaluation["text"][places]
        counted = self._is_size_for(train, held_out)
        codes = train[counted] * max(1, len(self._lengths[1])) + held_out[counted]
        self._pairs.scatter(train[counted] // TEXTS_AT_ONCE, codes)

    def _is_size_for(self, train: Indices, held_out: Indices) -> NDArray[np.bool_]:
        """Return True for pairs of texts that are compared by runs of this size: the smaller size if one of them is short."""
        shorter = np.minimum(self._lengths[0][train], self._lengths[1][held_out])
        result: NDArray[np.bool_] = (shorter < 2 * self._params.ngram) == (self._size == self._params.ngram // 2)
        return result


def _placed(sets: Shingles, block: Chosen) -> NDArray[np.void]:
    """Return the runs of the texts of a block, each with the index of its text."""
    placed = np.empty(len(sets.hashes), RUN)
    placed["hash"], placed["text"] = sets.hashes, sets.texts + block.places.start
    return placed


def _passing(size: int, filter: Path, filter_bits: int, block: Chosen) -> NDArray[np.void]:
    """Return the runs of a block's texts that pass the filter in a file."""
    all_runs = runs(block.words(), size)
    bits, places = np.load(filter, mmap_mode="r"), all_runs.hashes >> np.uint64(64 - filter_bits)
    passes = bits[places >> np.uint64(3)] >> (places & np.uint64(7)).astype(np.uint8) & np.uint8(1)
    return _placed(all_runs.select(passes.view(np.bool_)).as_sets(), block)
