"""Bounds of a difference for any miss probability that the gate sets. Resampling cannot estimate a tail such as 10⁻⁵ in practicable time.

Kish 1965, Survey Sampling: units of unequal size x have the weight of (Σ x)² / Σ x² equal ones.
Shapes: N = items, G = groups.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from tasks.core.statistics import Estimate, Vector, exact, few_differ, group_means, student, sums_by_group, vector


def ratio_bounds(numerators: ArrayLike, denominators: ArrayLike, groups: Sequence[str], tail: float) -> Estimate:
    """Return Σ numerators / Σ denominators, with bounds of which each is missed with probability `tail` if groups scatter symmetrically.

    If few groups lose much and most gain a little, the bounds are missed more often; the smaller `tail`, the larger the excess
    (`benchmarks/gate.py` measures it). The bounds are Student's t with the jackknife error. Its degrees of freedom come from the effective number
    of groups of equal size (Kish): with eight uneven groups, the plain linearised ratio missed 2.7 times too often.
    """
    sums_G2 = sums_by_group(vector(numerators), vector(denominators), groups)
    total, weight = sums_G2.sum(axis=0)
    return Estimate(float(total / weight), *student(sums_G2, tail), len(sums_G2))


def share_bounds(changes: ArrayLike, groups: Sequence[str], tail: float) -> Estimate:
    """Return the mean of changes of -1, 0 or 1, with bounds of which each is missed with probability `tail` at most.

    They are the widest of three bounds, like those of scores. If changes are rare, the exact bounds of the numbers of rises and falls hold. Groups
    are counted, because the items of a group may change together. With one item in each group, these are the cases of McNemar's test.
    """
    change_N = vector(changes)
    over_groups = ratio_bounds(change_N, np.ones_like(change_N), groups, tail)
    further = [_unseen(over_groups, tail), _counted(group_means(change_N, groups), tail)]
    return _wider(over_groups, further)


def score_bounds(changes: ArrayLike, groups: Sequence[str], tail: float) -> Estimate:
    """Return the mean of changes of scores, -1 to 1 each, with bounds of which each is missed with probability `tail`.

    They are the widest of three bounds; this composition is ours:

    - Student's t over groups.
    - The mean plus and minus the exact upper bound of a share of which none of n groups showed a case, for changes of full size in such groups.
    - If few groups differ, the exact bounds of the numbers of rises and falls, counted as the effective number of equal groups (Kish).
    """
    change_N = vector(changes)
    over_groups = ratio_bounds(change_N, np.ones_like(change_N), groups, tail)
    return with_rare_changes(over_groups, group_means(change_N, groups), tail)


def with_rare_changes(over_groups: Estimate, change_G: Vector, tail: float) -> Estimate:
    """Return the mean of the changes of groups, -1 to 1, with the widest of Student's bounds and those for rare changes."""
    further = [_unseen(over_groups, tail)]
    if change_G.any() and few_differ(change_G):
        further.append(_counted(change_G, tail))
    return _wider(over_groups, further)


def _unseen(over_groups: Estimate, tail: float) -> tuple[float, float]:
    """Return the mean plus and minus the exact upper bound of the share of groups with a change that none showed."""
    _, unseen = exact(0, over_groups.n, tail)
    return over_groups.value - unseen, over_groups.value + unseen


def _counted(change_G: Vector, tail: float) -> tuple[float, float]:
    """Return bounds from the exact ones of the numbers of groups that rose and that fell."""
    rose, fell = (_of_few(np.maximum(sign * change_G, 0), tail / 2) for sign in (1, -1))
    return rose[0] - fell[1], rose[1] - fell[0]


def _wider(estimate: Estimate, further: Sequence[tuple[float, float]]) -> Estimate:
    """Return an estimate within -1 to 1, with the widest of its own bounds and the further ones."""
    lows, highs = zip((estimate.low, estimate.high), *further, strict=True)
    return Estimate(estimate.value, max(min(lows), -1.0), min(max(highs), 1.0), estimate.n)


def _of_few(part_G: Vector, tail: float) -> tuple[float, float]:
    """Return bounds of the mean of non-negative values of which few are not 0."""
    if not part_G.any():
        return exact(0, len(part_G), tail)
    size = float((part_G**2).sum() / part_G.sum())
    low, high = exact(float(part_G.sum()) / size, len(part_G), tail)
    return low * size, high * size
