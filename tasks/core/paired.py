"""Tests of paired differences, their correction for multiplicity, and their power.

Differences are those of two systems on the same items. The exchangeable unit is the *group* of items, or the item if no groups are given:
under the null hypothesis either system may have either score, so the sign of a group's difference is a coin flip. For differences of -1, 0 and 1
without groups, this is McNemar's exact test.

Fisher 1935, The Design of Experiments, §21; Pitman 1937: the randomisation test of paired differences.
Phipson & Smyth 2010, https://doi.org/10.2202/1544-6115.1585: drawn flips give (1 + hits) / (1 + draws), which is never 0.
Holm 1979, A Simple Sequentially Rejective Multiple Test Procedure.
Benjamini & Hochberg 1995, Controlling the False Discovery Rate.
Connor 1987, https://doi.org/10.2307/2531961: the sample size of McNemar's test, with the separate variances of the null hypothesis and of the
alternative; here with sums over groups.
Shapes: N = items, G = groups, B = draws.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Vector = NDArray[np.float64]
EXACT = 16
"""Largest number of groups with a difference for which all flips are enumerated."""
DRAWS = 20_000
"""Number of random flips if there are more groups. The standard error at p = 0.05 is then 0.0015."""
_CHUNK = 2**22
"""Largest number of signs in memory at a time."""


@dataclass(frozen=True)
class Power:
    """The differences that an experiment of this kind detects, two-sided."""

    items: int | None
    """Number of items of this kind that would detect the observed difference if it is the true one; None without a difference."""
    detectable: float | None
    """The true difference that this number of items detects; None if all differences are equal, because they show no variance."""


def group_sums(differences: ArrayLike, groups: Sequence[str] | None = None) -> tuple[Vector, Vector]:
    """Return the sum of differences and the number of items of each group, (G,) each. Without `groups`, each item is a group."""
    differences_N = np.asarray(differences, dtype=np.float64)
    if groups is None:
        return differences_N, np.ones_like(differences_N)
    owners_N = np.unique(np.asarray(groups), return_inverse=True)[1]
    sums_G, sizes_G = (np.bincount(owners_N, weights_N) for weights_N in (differences_N, np.ones_like(differences_N)))
    return sums_G.astype(np.float64), sizes_G.astype(np.float64)


def sign_flip(differences: ArrayLike, groups: Sequence[str] | None = None, seed: int = 0) -> float:
    """Return the two-sided p-value of the mean difference under flips of the signs of groups.

    It is exact if at most `EXACT` groups differ, else estimated from `DRAWS` draws.
    """
    sums_G = group_sums(differences, groups)[0]
    sums_G = sums_G[sums_G != 0]
    # Sums of floats in another order differ in their last digits: a sum within this distance counts as equal to the observed one.
    threshold = abs(sums_G.sum()) - 1e-9 * np.abs(sums_G).sum()
    if len(sums_G) <= EXACT:
        totals = np.zeros(1)
        for value in sums_G:
            totals = np.concatenate([totals + value, totals - value])
        return float((np.abs(totals) >= threshold).mean())
    random = np.random.default_rng(seed)
    hits, rows = 0, max(1, _CHUNK // len(sums_G))
    for start in range(0, DRAWS, rows):
        signs_BG = 2.0 * random.integers(0, 2, size=(min(rows, DRAWS - start), len(sums_G)), dtype=np.int8) - 1
        hits += int((np.abs(signs_BG @ sums_G) >= threshold).sum())
    return (1 + hits) / (1 + DRAWS)


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values corrected for their number (Holm). With probability 1 - α, none of those below α is a false discovery, under any dependence."""
    order = sorted(range(len(p_values)), key=p_values.__getitem__)
    adjusted, highest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(order):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = highest
    return adjusted


def benjamini_hochberg(p_values: Sequence[float]) -> list[float]:
    """Return p-values corrected for their number (Benjamini-Hochberg). Of those below α, an expected share of at most α is false, if they are
    independent or positively dependent."""
    order = sorted(range(len(p_values)), key=p_values.__getitem__, reverse=True)
    adjusted, lowest = [0.0] * len(p_values), 1.0
    for place, index in enumerate(order):
        lowest = min(lowest, len(p_values) / (len(p_values) - place) * p_values[index])
        adjusted[index] = lowest
    return adjusted


def power(
    differences: ArrayLike, groups: Sequence[str] | None = None, *, alpha: float = 0.05, chance: float = 0.8
) -> Power:
    """Return the differences that are detected at level `alpha` with probability `chance`, by the normal approximation.

    It assumes that further items come in further groups of the same sizes.
    """
    from scipy import special

    sums_G, sizes_G = group_sums(differences, groups)
    num_items = sizes_G.sum()
    difference = sums_G.sum() / num_items
    null_error = math.sqrt(float((sums_G**2).sum())) / num_items
    error = math.sqrt(float(((sums_G - sizes_G * difference) ** 2).sum())) / num_items
    level, reach = float(special.ndtri(1 - alpha / 2)), float(special.ndtri(chance))
    needed = None
    if abs(difference) > 1e-12:
        needed = math.ceil(num_items * ((level * null_error + reach * error) / difference) ** 2)
    return Power(needed, (level + reach) * error if error > 1e-12 else None)
