"""Macro-F1 of labels: the mean over labels of the harmonic mean of precision and recall, with intervals over groups.

Each label that occurs among the references has the same weight, however rare it is. An answer without a label is a miss of its reference, and a
false positive of no label. Of the two macro-F1 in use, this is the mean of F1, not the F1 of means (Opitz & Burst 2019,
https://arxiv.org/abs/1911.03347).

One or two groups say little about the F1 of their label, which has the same weight as any other. With 20 or 30 items, 4 % of them of one label, the
intervals of resampling alone missed the truth in 10 to 45 of 100 draws (`benchmarks/intervals.py --labels`). By a design of Ratchet's own,
intervals therefore also contain those of resamples to which one group of each label is added. Its outcomes are drawn anew in each resample, with
the prior of Jeffreys (1946), ½ each for right and wrong. Intervals know nothing of a label that no item has.
Shapes: B = resamples, G = groups, K = counts of a group, L = labels, O = outcomes.
"""

import math
from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np

from tasks.core import statistics
from tasks.core.promotion import bounds
from tasks.core.statistics import Bootstrap, Estimate, Vector

ACCURACY, MACRO_F1 = "labels accuracy", "labels macro-F1"
"""The measure whose results hold references and labels, and the figure that is computed from all these results."""


def macro_f1(
    expected: Sequence[str], predicted: Sequence[str], groups: Sequence[str], how: Bootstrap = statistics.DEFAULT
) -> Estimate:
    """Return macro-F1 with its interval over groups, like those of `statistics`. With a single group it is 0 to 1.

    If all answers are wrong, or all right, resamples do not vary. The interval then contains that of `statistics.share`.
    """
    counts_GK, labels = _counts(expected, predicted, groups)
    estimate = _estimate(counts_GK, how, lambda sums_BK: _f1(sums_BK, labels), 0.0)
    if estimate.value in (0.0, 1.0):
        estimate = statistics.proportion(round(estimate.value) * estimate.n, estimate.n, how.confidence)
    return _with_rare_labels(estimate, counts_GK, how, lambda sums_BK: _f1(sums_BK, labels), labels)


def macro_f1_difference(
    expected: Sequence[str],
    before: Sequence[str],
    after: Sequence[str],
    groups: Sequence[str],
    how: Bootstrap = statistics.DEFAULT,
) -> Estimate:
    """Return macro-F1 after minus that before. Both are resampled by the same draws of groups.

    If few answers or none changed their label, the bounds are widened like those of `statistics.score_difference`.
    """
    counts_GK, labels = _paired_counts(expected, before, after, groups)
    if list(before) == list(after):
        unchanged = np.zeros(len(groups))
        estimate = statistics.score_difference(unchanged, unchanged, groups, how)
    else:
        estimate = _estimate(counts_GK, how, lambda sums_BK: _rise(sums_BK, labels), -1.0)
        estimate = statistics.with_rare_changes(estimate, _added(counts_GK, labels), how)
    return _with_rare_labels(estimate, counts_GK, how, lambda sums_BK: _rise(sums_BK, labels), labels)


def macro_f1_bounds(
    expected: Sequence[str], before: Sequence[str], after: Sequence[str], groups: Sequence[str], tail: float
) -> Estimate:
    """Return macro-F1 after minus that before, with bounds of which each is missed with probability `tail` if groups scatter symmetrically.

    The bounds are Student's t with the jackknife error over groups, like `bounds.ratio_bounds`. If few answers or none changed their label, they are
    widened like those of `bounds.score_bounds`, because one corrected label says little about the others. The possible change by outcomes that were
    not observed (`_unseen`) is added to the half width as the root of the sum of squares, like an independent error.
    """
    counts_GK, labels = _paired_counts(expected, before, after, groups)
    if list(before) == list(after):
        error, estimate = 0.0, bounds.score_bounds(np.zeros(len(groups)), groups, tail)
    else:
        over_groups = _student(counts_GK, tail, lambda sums_K: _rise(sums_K, labels), -1.0)
        error = max(over_groups.value - over_groups.low, over_groups.high - over_groups.value)
        estimate = bounds.with_rare_changes(over_groups, _added(counts_GK, labels), tail)
    half = math.hypot(error, _unseen(counts_GK, labels, tail))
    return _wider(estimate, estimate.value - half, estimate.value + half)


def confusion(expected: Sequence[str], predicted: Sequence[str]) -> dict[str, dict[str, int]]:
    """Return how often each label was given for each reference. An empty text means no label."""
    table: dict[str, Counter[str]] = {label: Counter() for label in sorted(set(expected))}
    for reference, label in zip(expected, predicted, strict=True):
        table[reference][label] += 1
    return {reference: dict(sorted(counts.items())) for reference, counts in table.items()}


def _estimate(counts_GK: Vector, how: Bootstrap, figure: Callable[[Vector], Vector], least: float) -> Estimate:
    if len(counts_GK) < statistics.FEW:
        return _student(counts_GK, (1 - how.confidence) / 2, figure, least)
    low, high = statistics.percentiles(figure(statistics.resampled(counts_GK, how)), len(counts_GK), how)
    return Estimate(float(figure(counts_GK.sum(axis=0))), low, high, len(counts_GK))


def _student(counts_GK: Vector, tail: float, figure: Callable[[Vector], Vector], least: float) -> Estimate:
    """Return a figure of summed counts with Student's bounds. If it is the same without any one group, the bounds are `least` and 1."""
    value, num_groups = float(figure(counts_GK.sum(axis=0))), len(counts_GK)
    error = statistics.jackknife_error(figure(counts_GK.sum(axis=0) - counts_GK))
    half = statistics.t_quantile(num_groups - 1, 1 - tail) * error if num_groups > 1 and error > 0 else math.inf
    return Estimate(value, max(value - half, least), min(value + half, 1.0), num_groups)


def _wider(estimate: Estimate, low: float, high: float) -> Estimate:
    """Return a change whose interval also contains `low` and `high`, within -1 to 1."""
    low, high = max(min(estimate.low, low), -1.0), min(max(estimate.high, high), 1.0)
    return Estimate(estimate.value, low, high, estimate.n)


def _unseen(counts_GK: Vector, labels: int, tail: float) -> float:
    """Return the largest change of macro-F1 by outcomes that no answer to a label showed.

    By a rule of Ratchet's own: for each label, u is the exact upper bound of a share of which none of the label's groups showed a case. A share u of
    hits more or fewer, with their predictions, changes F1 by u / (2 - u).
    """
    groups_L = (counts_GK[:, labels : 2 * labels] > 0).sum(axis=0)
    shares = [statistics.exact(0, int(count), tail)[1] for count in groups_L]
    return math.hypot(*(share / (2 - share) for share in shares)) / labels


def _with_rare_labels(
    estimate: Estimate, counts_GK: Vector, how: Bootstrap, figure: Callable[[Vector], Vector], labels: int
) -> Estimate:
    """Return an estimate whose interval also contains that of resamples with one more group of each label."""
    if len(counts_GK) < 2:
        return estimate
    sums_BK = statistics.resampled(counts_GK, how) + _further_groups(counts_GK, labels, how)
    low, high = statistics.percentiles(figure(sums_BK), len(counts_GK), how)
    return Estimate(estimate.value, min(estimate.low, low), max(estimate.high, high), estimate.n)


def _further_groups(counts_GK: Vector, labels: int, how: Bootstrap) -> Vector:
    """Return for every resample the counts of one more group of each label, as large as the label's other groups on average, (B, K).

    The weights of its outcomes (right or wrong, before and after) add up to one group. Wrong answers are spread evenly over the other labels.
    """
    sides = counts_GK.shape[1] // (3 * labels)
    references_GL, outcomes = counts_GK[:, labels : 2 * labels], np.arange(2**sides)
    size_L = references_GL.sum(axis=0) / (references_GL > 0).sum(axis=0)
    random = np.random.default_rng([how.seed, 1])  # another stream than the one that draws the groups
    weights_BLO = random.gamma(1 / len(outcomes), size=(how.resamples, labels, len(outcomes))) * size_L[:, None]
    references_BL, counts = weights_BLO.sum(axis=2), []
    for side in range(sides):
        hits_BL = weights_BLO[..., outcomes >> side & 1 == 1].sum(axis=2)
        misses_BL = references_BL - hits_BL
        elsewhere_BL = (misses_BL.sum(axis=1, keepdims=True) - misses_BL) / max(labels - 1, 1)
        counts += [hits_BL, references_BL, hits_BL + elsewhere_BL]
    return np.concatenate(counts, axis=1)


def _counts(expected: Sequence[str], predicted: Sequence[str], groups: Sequence[str]) -> tuple[Vector, int]:
    """Return the hits, references and predictions of each label in each group, (G, 3 L), and the number of labels."""
    labels = {label: number for number, label in enumerate(sorted(set(expected)))}
    places = {group: number for number, group in enumerate(sorted(set(groups)))}
    counts_G3L = np.zeros((len(places), 3, len(labels)))
    for reference, label, group in zip(expected, predicted, groups, strict=True):
        counts_G3L[places[group], 0, labels[reference]] += label == reference
        counts_G3L[places[group], 1, labels[reference]] += 1
        if label in labels:
            counts_G3L[places[group], 2, labels[label]] += 1
    return counts_G3L.reshape(len(places), -1), len(labels)


def _paired_counts(
    expected: Sequence[str], before: Sequence[str], after: Sequence[str], groups: Sequence[str]
) -> tuple[Vector, int]:
    """Return the counts of both sides beside each other, (G, 6 L), and the number of labels."""
    first, labels = _counts(expected, before, groups)
    return np.concatenate([first, _counts(expected, after, groups)[0]], axis=1), labels


def _f1(sums_K: Vector, labels: int) -> Vector:
    """Return macro-F1 of sums (…, 3 L). A label that is absent from a resample is left out of its mean."""
    hits_L, references_L, predictions_L = np.moveaxis(sums_K.reshape(*sums_K.shape[:-1], 3, labels), -2, 0)
    present_L = references_L > 0
    f1_L = 2 * hits_L / np.where(present_L, references_L + predictions_L, 1)
    return np.where(present_L, f1_L, 0.0).sum(axis=-1) / np.maximum(present_L.sum(axis=-1), 1)


def _rise(sums_K: Vector, labels: int) -> Vector:
    return _f1(sums_K[..., 3 * labels :], labels) - _f1(sums_K[..., : 3 * labels], labels)


def _added(counts_GK: Vector, labels: int) -> Vector:
    """Return the jackknife pseudo-value of each group, its contribution to the rise times the number of groups; 0 if its counts are equal, (G,)."""
    sums_K, num_groups = counts_GK.sum(axis=0), len(counts_GK)
    before_GK, after_GK = np.split(counts_GK, 2, axis=1)
    added_G = num_groups * _rise(sums_K, labels) - (num_groups - 1) * _rise(sums_K - counts_GK, labels)
    # The pseudo-value of a group without a change reflects only its small weight.
    return np.where((before_GK != after_GK).any(axis=1), added_G, 0.0)
