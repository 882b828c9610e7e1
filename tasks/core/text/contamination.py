"""Detection of training texts that overlap an evaluation text, by shared n-grams."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tasks.core.records import Example
from tasks.core.text.contamination_config import Contamination
from tasks.core.text.shingles import Indices, Shingles, hash_words, shingle, templates

FEWEST = 3
"""One or two common runs are chance, whatever share of a text they are."""


def leaks(training: Sequence[Example], evaluation: Sequence[Example], params: Contamination) -> dict[int, int]:
    """Map the position of each training example that overlaps an evaluation example, by prompt or response, to the latter's."""
    pairs = overlaps(sides(training), sides(evaluation), params)
    return {train_index % len(training): eval_index % len(evaluation) for train_index, eval_index in pairs.items()}


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


def overlaps(training: Sequence[str], evaluation: Sequence[str], params: Contamination) -> dict[int, int]:
    """Map the position of each contaminated training text to that of the evaluation text it shares most with.

    Two texts overlap where one holds at least `share` of the n-grams of the shorter one. Runs are of `ngram` words, and of
    half as many where one of the texts is short. A run that many training texts hold is a phrase and counts for nothing.
    """
    training_words, evaluation_words = hash_words(training), hash_words(evaluation)
    best: dict[int, tuple[float, int]] = {}
    sizes = (params.ngram, params.ngram // 2)
    for size in sizes:
        pairs, shares = _shared(shingle(training_words, size), shingle(evaluation_words, size), params.common)
        lengths = np.minimum(training_words.counts[pairs[:, 0]], evaluation_words.counts[pairs[:, 1]])
        counted = ((lengths < 2 * params.ngram) == (size == sizes[1])) & (shares >= params.share)
        for (train_index, eval_index), share in zip(pairs[counted].tolist(), shares[counted].tolist(), strict=True):
            best[train_index] = max(best.get(train_index, (0.0, 0)), (share, eval_index))
    return {train_index: best[train_index][1] for train_index in sorted(best)}


def _shared(training: Shingles, evaluation: Shingles, common: int) -> tuple[Indices, NDArray[np.float64]]:
    """Return the pairs (training text, evaluation text) with `FEWEST` common n-grams or more, and the share of the shorter text's
    n-grams that are common. An n-gram that more than `common` training texts hold is in none of the counts."""
    hits = training.only(np.unique(evaluation.hashes))
    phrases = templates(hits, common)
    hits, holders = hits.without(phrases), evaluation.without(phrases)
    training_sizes = training.sizes - training.only(phrases).sizes

    order = np.argsort(holders.hashes, kind="stable")
    ordered, texts = holders.hashes[order], holders.texts[order]
    first = np.searchsorted(ordered, hits.hashes, side="left")
    counts = np.searchsorted(ordered, hits.hashes, side="right") - first
    places = np.repeat(first, counts) + np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    total = max(1, len(evaluation))
    codes, together = np.unique(np.repeat(hits.texts, counts) * total + texts[places], return_counts=True)
    codes, together = codes[together >= FEWEST], together[together >= FEWEST]
    pairs = np.stack([codes // total, codes % total], axis=1)
    return pairs, together / np.minimum(training_sizes[pairs[:, 0]], holders.sizes[pairs[:, 1]])
