"""Bounds of a difference that are each missed with a chance that the gate sets, however small: no number of resamples that anyone waits for
knows a tail of 10⁻⁵.

Kish 1965, Survey Sampling: figures of unequal size weigh as (Σ x)² / Σ x² equal ones do.
Shapes: N = items, G = groups.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from tasks.core.statistics import Estimate, Vector, exact, few_differ, group_means, student, sums_by_group, vector


def ratio_bounds(numerators: ArrayLike, denominators: ArrayLike, groups: Sequence[str], tail: float) -> Estimate:
    """Return Σ numerators / Σ denominators, with bounds that are each missed with chance `tail`, however small, if groups
    scatter symmetrically. Where a few lose much and most gain a little, they are missed more often, the smaller the tail
    (`benchmarks/gate.py` tells how often).

    Student's t with the jackknife's error, and as many units as groups of one size would have to be to weigh as these do: with
    eight uneven groups the plain linearised ratio missed 2.7 times too often.
    """
    sums_G2 = sums_by_group(vector(numerators), vector(denominators), groups)
    total, weight = sums_G2.sum(axis=0)
    return Estimate(float(total / weight), *student(sums_G2, tail), len(sums_G2))


def share_bounds(changes: ArrayLike, groups: Sequence[str], tail: float) -> Estimate:
    """Return the mean of changes of -1, 0 or 1, with bounds that are each missed with chance `tail` at most.

    They are the widest of three, as those of scores: the exact ones of how many rose and how many fell hold where changes are rare. Groups are
    counted, since items of one may change together; with one item each they are McNemar's cases.
    """
    change_N = vector(changes)
    over_groups = ratio_bounds(change_N, np.ones_like(change_N), groups, tail)
    further = [_unseen(over_groups, tail), _counted(group_means(change_N, groups), tail)]
    return _wider(over_groups, further)


def score_bounds(changes: ArrayLike, groups: Sequence[str], tail: float) -> Estimate:
    """Return the mean of changes of scores, -1 to 1 each, with bounds that are each missed with chance `tail`.

    They are the widest of three. Student's over groups. What as large changes as can be would add in the share of groups that may have them though
    none was seen to: exact, none of n. And where few groups make the difference, the exact ones of how many rose and how many fell, as many equal
    ones as weigh as these do. The composition of these parts is ours.
    """
    change_N = vector(changes)
    over_groups = ratio_bounds(change_N, np.ones_like(change_N), groups, tail)
    return with_rare_changes(over_groups, group_means(change_N, groups), tail)


def with_rare_changes(over_groups: Estimate, change_G: Vector, tail: float) -> Estimate:
    """Return a change of -1 to 1 that is the mean of what each group adds, with the widest of Student's bounds and those of rare changes."""
    further = [_unseen(over_groups, tail)]
    if change_G.any() and few_differ(change_G):
        further.append(_counted(change_G, tail))
    return _wider(over_groups, further)


def _unseen(over_groups: Estimate, tail: float) -> tuple[float, float]:
    """Return bounds with what the share of groups adds that may change though none was seen to."""
    _, unseen = exact(0, over_groups.n, tail)
    return over_groups.value - unseen, over_groups.value + unseen


def _counted(change_G: Vector, tail: float) -> tuple[float, float]:
    """Return the exact bounds of how many groups rose and how many fell."""
    rose, fell = (_of_few(np.maximum(sign * change_G, 0), tail / 2) for sign in (1, -1))
    return rose[0] - fell[1], rose[1] - fell[0]


def _wider(estimate: Estimate, further: Sequence[tuple[float, float]]) -> Estimate:
    """Return an estimate of -1 to 1 with the widest of its own bounds and further ones."""
    lows, highs = zip((estimate.low, estimate.high), *further, strict=True)
    return Estimate(estimate.value, max(min(lows), -1.0), min(max(highs), 1.0), estimate.n)


def _of_few(part_G: Vector, tail: float) -> tuple[float, float]:
    """Return bounds of a mean of parts of which few are not 0."""
    if not part_G.any():
        return exact(0, len(part_G), tail)
    size = float((part_G**2).sum() / part_G.sum())
    low, high = exact(float(part_G.sum()) / size, len(part_G), tail)
    return low * size, high * size
