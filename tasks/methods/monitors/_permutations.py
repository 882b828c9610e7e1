"""Random relabellings of the pooled items as reference and incoming (Fisher 1935; Phipson & Smyth 2010)."""

import numpy as np
from numpy.typing import NDArray

from tasks.methods.monitors import FEW

TOLERANCE = 1e-9
"""Statistics that differ by less count as equal: their sums were taken in another order. Summands are of order 1: kernels, cosines, nats per
token."""


def relabelled(reference: int, incoming: int, count: int, seed: int) -> NDArray[np.float64]:
    """Return rows with ones at `incoming` places, (1 + count, reference + incoming); the first row is the observed labelling.

    Raises ValueError if there are too few items of either kind.
    """
    check_counts(reference, incoming)
    rows = np.zeros((1 + count, reference + incoming))
    rows[0, reference:] = 1
    random = np.random.default_rng(seed)
    for row in rows[1:]:
        row[random.permutation(reference + incoming)[:incoming]] = 1
    return rows


def check_counts(reference: int, incoming: int, *, halves: bool = False) -> None:
    """Raise ValueError if there are too few items of either kind; with `halves` the reference is split, and needs twice as many."""
    least = 2 * FEW if halves else FEW
    if reference < least or incoming < FEW:
        needed = f"{FEW} and {least}" if halves else f"{FEW} of each"
        raise ValueError(f"{incoming} items against {reference} say nothing; {needed} are needed.")


def chance(statistics: NDArray[np.float64]) -> float:
    """Return the p-value: the share of relabellings at least as extreme as the observed one (the first), which is counted too, so never 0."""
    return float((statistics >= statistics[0] - TOLERANCE).mean())
