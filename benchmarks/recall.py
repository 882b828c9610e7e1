"""Share of near-duplicates that are found, by their similarity: `python benchmarks/recall.py [--texts 40000] [--words 60] [--template 0]`.

Each text has a copy in which words were replaced, at scattered places or in a row, so that copies have similarities from 0.4 to 1. All
are compared as stage `ingest` compares prompts or responses (Jaccard 0.7 of three-word runs, candidates by MinHash in 32 bands of
four). A pair from 0.7 on that is not found is a miss of the bands; `promised` is 1 - (1 - s^4)^32 on average over the pairs. Below 0.7
none may be found, nor may texts that are no copies, since candidates are compared exactly. With `--template N` each text begins with one of ten
templates of N words, whose shingles are in no set: similarities are those of the rest.
"""

import argparse
import tempfile
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tasks.core.text import shingles
from tasks.core.text.near_duplicates import Limits, common_shingles, find_near_duplicates
from tasks.core.text.shingles import BANDS, PERMUTATIONS, Shingles, Words
from tasks.core.text.texts import Selection, Texts

SIMILARITY, LENGTH = 0.7, 3
VOCABULARY = 20_000
TEMPLATES = 10
SHARE = 0.05
"""Of texts, as in `ingest.near_duplicates.template`: a shingle that more hold is in no set."""
EDGES = (0.4, 0.5, 0.6, 0.65, 0.7, 0.72, 0.74, 0.76, 0.78, 0.8, 0.85, 0.9, 0.95, 1.01)


def planted(number: int, words: int, template: int, draw: np.random.Generator) -> Words:
    """Return the hashes of the words of `number` texts, followed by those of their copies, each after a template of the given length."""
    known = draw.integers(0, 2**63, VOCABULARY, dtype=np.uint64)
    texts = known[draw.integers(0, VOCABULARY, (number, words))]
    copies = texts.copy()
    for place in range(number):
        size = draw.integers(1, max(2, words // 4))
        start = draw.integers(0, words - size)
        in_a_row = np.arange(start, start + size)
        changed = in_a_row if draw.random() < 0.5 else draw.choice(words, max(1, size // 3), replace=False)
        copies[place, changed] = draw.integers(0, 2**63, len(changed), dtype=np.uint64)
    templates = draw.integers(0, 2**63, (TEMPLATES, template), dtype=np.uint64)
    beginnings = np.tile(templates[draw.integers(0, TEMPLATES, number)], (2, 1))
    hashes = np.concatenate([beginnings, np.concatenate([texts, copies])], axis=1).ravel()
    return Words(hashes, np.arange(0, len(hashes) + 1, words + template))


def exact(sets: Shingles, number: int) -> NDArray[np.float64]:
    """Return the similarity of each text and its copy."""
    return shingles.jaccard(sets, np.stack([np.arange(number), np.arange(number) + number], axis=1))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texts", type=int, default=40_000)
    parser.add_argument("--words", type=int, default=60)
    parser.add_argument("--template", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    number = options.texts
    words = planted(number, options.words, options.template, np.random.default_rng(options.seed))
    limits = Limits(SIMILARITY, LENGTH, fewest=1, template=2 * number * SHARE)
    texts = Selection.all(Texts([2 * number], [lambda: words]))
    similarities = exact(shingles.shingle(words, LENGTH).without(common_shingles(texts, limits)), number)
    with tempfile.TemporaryDirectory() as folder:
        likeness = find_near_duplicates(texts, limits, np.zeros(2 * number, np.int8), Path(folder))
    places = np.arange(number)
    is_found = likeness.similarity(places, places + number) > 0
    rows = PERMUTATIONS // BANDS
    print("similarity        pairs    found   recall  promised")
    for low, high in pairwise(EDGES):
        chosen = (similarities >= low) & (similarities < high)
        if not chosen.any():
            continue
        promised = np.mean(1 - (1 - similarities[chosen] ** rows) ** BANDS) if low >= SIMILARITY else 0.0
        print(f"{low:.2f} to {min(high, 1):.2f}  {chosen.sum():>9,} {is_found[chosen].sum():>8,} {is_found[chosen].mean():>8.3%} {promised:>9.3%}")  # fmt: skip
    num_pairs = _pairs_of_texts(likeness.classes, likeness.pairs)
    print(f"pairs that are no copies of each other: {num_pairs - int(is_found.sum()):,}")


def _pairs_of_texts(classes: NDArray[np.int64], pairs: NDArray[np.int64]) -> int:
    """Return the number of pairs of texts that are near-duplicates."""
    sizes = np.bincount(classes[classes >= 0])
    return int((sizes * (sizes - 1) // 2).sum() + (sizes[pairs[:, 0]] * sizes[pairs[:, 1]]).sum())


if __name__ == "__main__":
    main()
