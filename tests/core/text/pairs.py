"""Near-duplicates of texts in memory, the reference for the search on disk."""

from collections.abc import Sequence

import numpy as np

from tasks.core.text.shingles import BANDS, MOST, Indices, Shingles, band_keys, distinct, equal_pairs, jaccard


def similar_pairs(sets: Shingles, threshold: float, ranks: Sequence[int], most: int = MOST) -> Indices:
    """Return, sorted, the pairs (earlier, later) of texts whose sets have a Jaccard similarity of at least `threshold`.

    Candidates share a band of MinHash; all of them are then compared exactly. Shape (pairs, 2). Of more than `most` texts that
    share a band, each is compared with the `most` that have the lowest ranks, because of two similar texts the one with the lower rank
    is kept. Every text must have a shingle.
    """
    rank_of = np.asarray(ranks, dtype=np.int64)
    keys = band_keys(sets)
    total = max(1, len(sets))
    bands = [
        np.concatenate(
            [np.sort(pairs, axis=1) @ [total, 1] for pairs in equal_pairs(keys[:, band], rank_of, most)]
            or [np.zeros(0, np.int64)]
        )
        for band in range(BANDS)
    ]
    codes = distinct(np.concatenate(bands))
    pairs = np.stack([codes // total, codes % total], axis=1)
    return pairs[jaccard(sets, pairs) >= threshold]
