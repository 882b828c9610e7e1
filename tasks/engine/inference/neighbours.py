"""Nearest neighbours of every row by cosine, exact up to a given number of rows, without a matrix of all pairs.

Shapes: N = rows, H = width, K = neighbours.
"""

import numpy as np
from numpy.typing import NDArray

CELLS = 4
"""Cells of the approximate index, in multiples of sqrt(N)."""
PROBES = 16
"""Cells of the index that are searched for each row."""

Floats = NDArray[np.float32]


def nearest(rows_NH: Floats, k: int, exact_up_to: int) -> tuple[Floats, NDArray[np.int64]]:
    """Return the cosines of each row's K nearest others, the nearest first, and their indices: (N, K) both; K is at most N - 1.

    More than `exact_up_to` rows are searched with an approximate index of cells (faiss `IndexIVFFlat`), which may miss some. Where it finds
    fewer than K neighbours, the missing indices are -1. Raises ValueError for a row that is zero or not finite.
    """
    unit_NH = _directions(rows_NH)
    count = min(k, len(unit_NH) - 1)
    if count < 1:
        return np.zeros((len(unit_NH), 0), np.float32), np.zeros((len(unit_NH), 0), np.int64)
    cosines, indices = _search(unit_NH, count + 1, exact_up_to)  # one more, because each row finds itself
    return _without_self(cosines, indices)


def _directions(rows_NH: Floats) -> Floats:
    lengths_N = np.linalg.norm(rows_NH, axis=1)
    if len(invalid := np.flatnonzero(~(np.isfinite(lengths_N) & (lengths_N > 0)))):
        raise ValueError(f"row {invalid[0]} has no direction: its length is {lengths_N[invalid[0]]}.")
    return np.ascontiguousarray(rows_NH / lengths_N[:, None], dtype=np.float32)


def _search(unit_NH: Floats, k: int, exact_up_to: int) -> tuple[Floats, NDArray[np.int64]]:
    import faiss

    size, width = unit_NH.shape
    index: faiss.Index = faiss.IndexFlatIP(width)
    if size > exact_up_to:
        cells = int(CELLS * size**0.5)
        inverted = faiss.IndexIVFFlat(index, width, cells, faiss.METRIC_INNER_PRODUCT)
        inverted.nprobe = min(PROBES, cells)
        inverted.train(unit_NH)
        index = inverted
    index.add(unit_NH)
    return index.search(unit_NH, k)


def _without_self(cosines: Floats, indices: NDArray[np.int64]) -> tuple[Floats, NDArray[np.int64]]:
    """Remove each row from its own neighbours; if it is not among them, because copies of it come first, remove the last neighbour."""
    removed = indices == np.arange(len(indices))[:, None]
    removed[~removed.any(axis=1), -1] = True
    shape = (len(indices), indices.shape[1] - 1)
    return cosines[~removed].reshape(shape), indices[~removed].reshape(shape)
