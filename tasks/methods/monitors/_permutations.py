"""Random relabellings of the pooled items as reference and incoming (Fisher 1935; Phipson & Smyth 2010)."""

import numpy as np
from numpy.typing import NDArray

from tasks.methods.monitors import FEW

TOLERANCE = 1e-9
"""Statistics that are nearer to each other are equal, their sums in another order. What is summed is of the size of 1: kernels, cosines, nats a
token."""


def relabelled(reference: int, incoming: int, count: int, seed: int) -> NDArray[np.float64]:
    """Ones at `incoming` places of each row, (1 + count, reference + incoming); the first row is how it was.

    Raises ValueError where there are too few items of either kind.
    """
    check_counts(reference, incoming)
    rows = np.zeros((1 + count, reference + incoming))
    rows[0, reference:] = 1
    random = np.random.default_rng(seed)
    for row in rows[1:]:
        row[random.permutation(reference + incoming)[:incoming]] = 1
    return rows


def check_counts(reference: int, incoming: int, *, halves: bool = False) -> None:
    """Raise ValueError where there are too few items of either kind; with `halves` the reference is parted, and must have twice as many."""
    least = 2 * FEW if halves else FEW
    if reference < least or incoming < FEW:
        needed = f"{FEW} and {least}" if halves else f"{FEW} of each"
        raise ValueError(f"{incoming} items against {reference} say nothing; {needed} are needed.")


def chance(statistics: NDArray[np.float64]) -> float:
    """The share of relabellings at least as extreme as the first, the observed one, which counts too: never 0."""
    return float((statistics >= statistics[0] - TOLERANCE).mean())
