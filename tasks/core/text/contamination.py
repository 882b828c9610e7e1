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
"""One or two common runs are chance, whatever share of a text they are, unless they are all of a short evaluation text."""
RUN = np.dtype([("hash", np.uint64), ("text", np.int64)])
"""A run of words and the place of its text."""
RUNS_AT_ONCE = 1 << 23
"""Runs of evaluation texts that are joined at once."""
TEXTS_AT_ONCE = 1 << 17
"""Training texts whose pairs are counted at once."""
TEMPLATE = 10
"""A long evaluation text that more than one in so many training texts hold is a template that all share, and no leak."""
FILTER = "filter.npy"
FEWEST_BITS, MOST_BITS, BITS_A_RUN = 12, 31, 16
"""The size of the filter as a power of two, and its bits for each run: of the runs that no evaluation text holds one in 16 passes."""


def sides(examples: Sequence[Example]) -> list[str]:
    """Return all prompts, then all responses."""
    prompts = [comparable(example, prompt_of(example)) for example in examples]
    return prompts + [comparable(example, example.response) for example in examples]


def comparable(example: Example, text: str) -> str:
    """Return the text to compare: empty for generated tasks, which share a wording and differ in a number."""
    return "" if example.tests is not None and example.tests.kind == "answer" else text


def prompt_of(example: Example) -> str:
    """Return all messages before the response as one text: earlier answers, tool calls and their results too."""
    return "\n".join(text for message in example.prompt for text in message.texts)


def overlaps(
    training: Sequence[str], evaluation: Sequence[str], params: Contamination, known: int | None = None
) -> dict[int, int]:
    """Map the position of each contaminated training text to that of the evaluation text it shares most with; see `find_overlaps`."""
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
    """Map the place of each contaminated training text to that of the evaluation text it shares most with.

    Two texts overlap where one holds at least `share` of the n-grams of the shorter one. Runs are of `ngram` words, and of
    half as many where one of the texts is short. An evaluation text of fewer than `FEWEST` such runs has to be held as a whole; one with
    fewer words than a run is not judged. A run that many training texts hold is a phrase and counts for nothing; an evaluation text of
    twice `ngram` words or more that is held as a whole is a leak however many hold it, unless `TEMPLATE` says that it is a template.
    Only the first `known` training texts tell what is a phrase or a template, if not all: those that a generator has just written may repeat a leak.
    Runs that both sides hold are joined by their hashes, a range of hashes at a time, in buckets below `folder`. Those of training texts
    are made and sifted a block at a time, by other processes if `apply` has any.
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
    """The runs of one size that training and evaluation texts have in common, and the pairs of texts that share many of them."""

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
        """The arrays are the words of each text; the first `known` training texts tell what is a phrase. With `whole` an evaluation text has to be held as a whole."""
        self._size, self._params, self._known, self._whole = size, params, known, whole
        self._lengths = training, evaluation
        self._phrases = np.zeros(len(training), np.int64)
        """The runs of each training text that are phrases."""
        self._runs = np.zeros(len(evaluation), np.int64)
        """The runs of each evaluation text that are none."""
        num_runs = int(np.maximum(evaluation - size + 1, 0).sum())
        self._range_bits = max(0, math.ceil(math.log2(max(1, num_runs) / RUNS_AT_ONCE)))
        self._filter_bits = min(max(FEWEST_BITS, math.ceil(math.log2(max(1, num_runs) * BITS_A_RUN))), MOST_BITS)
        self._folder = folder
        self._held = Buckets(folder / "training", RUN), Buckets(folder / "evaluation", RUN)
        self._pairs = Buckets(folder / "pairs", np.int64)

    def add_evaluation(self, blocks: Sequence[Chosen], places: Indices | None = None) -> None:
        """Put the runs of evaluation texts, or of those at some places, into buckets and into the filter."""
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
        """Put the runs of training texts that the filter lets pass into buckets: nearly all that no evaluation text holds are left out."""
        passing = partial(_passing, self._size, self._folder / FILTER, self._filter_bits)
        for placed in track(apply(passing, blocks, len(blocks)), len(blocks)):
            self._held[0].scatter(self._ranges(placed), placed)

    def overlaps(self, training: Selection) -> Iterator[tuple[int, int, float]]:
        """Yield place of the training text, place of the evaluation text, and the share of runs in common, of each pair that overlaps."""
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
        """Return the places of the long evaluation texts of which every run was a phrase, once the overlaps were told."""
        is_long = self._lengths[1] >= 2 * self._params.ngram
        return np.flatnonzero(is_long & (self._runs == 0))

    def _num_runs(self, training: Selection, places: Indices) -> Indices:
        """Return the number of runs, without phrases, of the training texts at these sorted places."""
        texts, numbers = np.unique(places, return_inverse=True)
        counts = [shingle(block.words(), self._size).sizes for block in training.choose(texts)]
        return (np.concatenate([np.zeros(0, np.int64), *counts]) - self._phrases[texts])[numbers]

    def _is_whole(self, train: Indices, held_out: Indices, common: Indices) -> NDArray[np.bool_]:
        """Return the pairs whose evaluation text has too few runs to share `FEWEST`, and shares all of them."""
        num_runs = self._lengths[1][held_out] - self._size + 1
        result: NDArray[np.bool_] = (
            (num_runs < FEWEST) & (common == num_runs) & (self._lengths[1][held_out] <= self._lengths[0][train])
        )
        return result

    def _ranges(self, placed: NDArray[np.void]) -> Indices:
        """Return the range of hashes, and so the bucket, of each run."""
        return ((placed["hash"] >> np.uint64(32)) >> np.uint64(32 - self._range_bits)).astype(np.int64)

    def _join(self, training: NDArray[Any], evaluation: NDArray[Any]) -> None:
        """Note the pairs of texts that have a run in common. Phrases count for nothing."""
        training = training[may_be_among(evaluation["hash"], training["hash"])]
        evaluation = evaluation[may_be_among(training["hash"], evaluation["hash"])]  # the others need not be sorted
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
        """Return the pairs of texts that are compared by runs of this size: the shorter size where one of them is short."""
        shorter = np.minimum(self._lengths[0][train], self._lengths[1][held_out])
        result: NDArray[np.bool_] = (shorter < 2 * self._params.ngram) == (self._size == self._params.ngram // 2)
        return result


def _placed(sets: Shingles, block: Chosen) -> NDArray[np.void]:
    """Return the runs of the texts of a block, each with its text."""
    placed = np.empty(len(sets.hashes), RUN)
    placed["hash"], placed["text"] = sets.hashes, sets.texts + block.places.start
    return placed


def _passing(size: int, filter: Path, filter_bits: int, block: Chosen) -> NDArray[np.void]:
    """Return those runs of the texts of a block that a filter in a file lets pass."""
    all_runs = runs(block.words(), size)
    bits, places = np.load(filter, mmap_mode="r"), all_runs.hashes >> np.uint64(64 - filter_bits)
    passes = bits[places >> np.uint64(3)] >> (places & np.uint64(7)).astype(np.uint8) & np.uint8(1)
    return _placed(all_runs.select(passes.view(np.bool_)).as_sets(), block)
