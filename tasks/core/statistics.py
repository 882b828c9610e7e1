"""Confidence intervals: over groups for losses, paired for differences, exact binomial for proportions.

The unit that is resampled is the *group* (a source module, a file), never the single item. Items of one group resemble each other, and intervals
that treat them as independent are too narrow. Two models are compared on the same items. They are resampled by the same draws of groups, so that
the difficulty of an item cancels (paired bootstrap). With fewer than `FEW` groups, the interval is Student's t with the jackknife error.
`benchmarks/intervals.py` measures how often both contain the truth: with two, three and four groups, the bootstrap's interval does so in 49, 76
and 86 of 100 cases in place of 95, and Student's in 97, 96 and 96.

Efron & Tibshirani 1993, An Introduction to the Bootstrap: §8.3 resample independent units, §13.3 percentile interval.
Chen et al. 2021, https://arxiv.org/abs/2107.03374, eq. 1: pass@k from n samples, without bias.
Koehn 2004, Statistical Significance Tests for Machine Translation Evaluation: the paired bootstrap for two models.
Hesterberg 2015, https://arxiv.org/abs/1411.5279: with n units the percentile interval is too narrow by about
(n - 1) / n and ignores Student's t; quantiles at Φ(-√(n / (n - 1)) t) correct both.
Efron & Stein 1981, The Jackknife Estimate of Variance: its error is too large on average, never too small.
Kish 1965, Survey Sampling: groups of unequal size with weights w have the weight of 1 / Σ w² equal groups.
Shapes: B = resamples, C = changes, G = groups, K = counts of a group, N = items.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

Vector = NDArray[np.float64]
FEW = 10
"""Smallest number of groups that are resampled."""
_DRAWS_IN_MEMORY = 2**24
"""Number of group counts in the resamples that are drawn at a time: 8 bytes each, twice."""
_DRAWS_KEPT = 2**22
"""Largest number of counts that are kept for the next figure."""


@dataclass(frozen=True)
class Estimate:
    """A figure, its interval, and the number of independent units behind both."""

    value: float
    low: float
    """Minus infinity if the data give no bound. One group, for instance, shows no variance."""
    high: float
    n: int
    """Number of groups that were resampled, or of trials of a proportion."""

    def record(self) -> dict[str, float | None]:
        """Return the estimate for JSON, rounded to six decimals. A bound that does not exist is null."""
        bounds = {"value": self.value, "low": self.low, "high": self.high}
        return {name: round(x, 6) if math.isfinite(x) else None for name, x in bounds.items()} | {"n": self.n}


@dataclass(frozen=True)
class Bootstrap:
    """Settings of the resampling. Equal data and equal settings give equal intervals."""

    resamples: int = 2000
    seed: int = 0
    confidence: float = 0.95

    def __post_init__(self) -> None:
        if self.resamples < 1 or not 0 < self.confidence < 1:
            raise ValueError(f"A bootstrap needs resamples ≥ 1 and a confidence between 0 and 1, not {self}.")


DEFAULT = Bootstrap()


def ratio(
    numerators: ArrayLike,
    denominators: ArrayLike,
    groups: Sequence[str] | None = None,
    how: Bootstrap = DEFAULT,
) -> Estimate:
    """Return Σ numerators / Σ denominators over items (nats per token, bits per byte), with its interval over `groups`.

    Without `groups`, each item is a group. A single group has a value but no bounds. Raises ValueError if the denominators sum
    to 0.
    """
    sums_G2 = sums_by_group(vector(numerators), vector(denominators), groups)
    low, high = _interval(sums_G2, how)
    return Estimate(_quotient(sums_G2.sum(axis=0)), low, high, len(sums_G2))


def ratio_difference(
    before: ArrayLike,
    after: ArrayLike,
    denominators: ArrayLike,
    groups: Sequence[str] | None = None,
    how: Bootstrap = DEFAULT,
) -> Estimate:
    """Return the ratio of `after` minus that of `before`, paired by item. Negative is a lower loss after.

    Both have the same denominators, so in every resample the difference of the ratios is the ratio of the differences.
    """
    return ratio(_differences(before, after), denominators, groups, how)


def mean(values: ArrayLike, groups: Sequence[str] | None = None, how: Bootstrap = DEFAULT) -> Estimate:
    """Return the mean over items with its interval over `groups`."""
    values_N = vector(values)
    return ratio(values_N, np.ones_like(values_N), groups, how)


def t_quantile(freedom: float, share: float) -> float:
    """Return the quantile of Student's t with `freedom` degrees of freedom below which `share` of it lies.

    scipy is imported on demand: its import takes as long as loading all settings, which every flow and stage does first.
    """
    from scipy import special

    return float(special.stdtrit(freedom, share))


def over_seeds(values: ArrayLike, confidence: float = 0.95) -> Estimate:
    """Return the mean of a figure over seeds, with Student's interval. Equal figures (of few passing answers, say) show no variance and give no bounds."""
    values_N = vector(values)
    error = _spread(values_N) / math.sqrt(len(values_N))
    return from_error(float(values_N.mean()), error, len(values_N), confidence)


def _spread(values_N: Vector) -> float:
    """Return the standard deviation of figures; 0 if they differ only in the last digit."""
    spread = float(values_N.std(ddof=1)) if len(values_N) > 1 else 0.0
    return spread if spread > 1e-12 + 1e-9 * abs(float(values_N.mean())) else 0.0


def over_seeds_at_any_time(values: ArrayLike, confidence: float = 0.95) -> Estimate:
    """Return the mean of a figure over seeds, with an interval that stays valid if you look at it after each seed and then decide on further seeds.

    The probability that the truth is ever outside, at any number of seeds, is at most 1 - `confidence`. The interval contains the means that
    are not rejected by a mixture of t tests over effects δ ~ N(0, 1), in standard deviations with the Haar prior. It is unbounded below five
    seeds, and 1.6 times as wide as Student's at twenty. Lai 1976, On Confidence Sequences, §4; Wang & Ramdas 2023,
    https://arxiv.org/abs/2310.03722, Theorem 4.7 with c = 1.
    """
    fixed = over_seeds(values, confidence)
    n, spread = fixed.n, _spread(vector(values))
    if not spread:
        return fixed
    threshold = ((1 - confidence) ** 2 / (n + 1)) ** (1 / n)
    remaining = n - (1 - threshold) * (n + 1)
    half = spread * math.sqrt((1 - threshold) * (n + 1) * (n - 1) / (n * remaining)) if remaining > 0 else math.inf
    return Estimate(fixed.value, fixed.value - half, fixed.value + half, n)


def p_at_any_time(values: ArrayLike) -> float:
    """Return a p-value for a mean of 0 that stays valid if you look at it after each seed. It is below 0.05 if the interval of
    `over_seeds_at_any_time` excludes 0."""
    values_N = vector(values)
    n, squares = len(values_N), float((values_N**2).sum())
    if not squares:
        return 1.0
    explained = float(values_N.sum()) ** 2 / ((n + 1) * squares)
    return min(1.0, math.sqrt(n + 1) * (1 - explained) ** (n / 2))


def proportion(successes: int, trials: int, confidence: float = 0.95) -> Estimate:
    """Return a share of trials with its exact interval (Clopper & Pearson 1934), whose coverage is at least `confidence`.

    Without trials, the value is NaN and the interval is 0 to 1.
    """
    if not 0 <= successes <= trials:
        raise ValueError(f"{successes} of {trials} is not a proportion.")
    if trials == 0:
        return Estimate(math.nan, 0.0, 1.0, 0)
    return Estimate(successes / trials, *exact(successes, trials, (1 - confidence) / 2), trials)


def exact(successes: float, trials: int, tail: float) -> tuple[float, float]:
    """Return the exact bounds of a share of trials, each missed with probability `tail` at most. Successes need not be a whole number."""
    from scipy import special

    failures = trials - successes
    low = special.betaincinv(successes, failures + 1, tail) if successes > 0 else 0.0
    high = special.betaincinv(successes + 1, failures, 1 - tail) if failures > 0 else 1.0
    return float(low), float(high)


def proportion_difference(
    before: ArrayLike, after: ArrayLike, groups: Sequence[str] | None = None, how: Bootstrap = DEFAULT
) -> Estimate:
    """Return the share of ones after minus that before, like `score_difference`. Raises ValueError if an item is neither 0 nor 1."""
    if not all(np.isin(vector(side), (0, 1)).all() for side in (before, after)):
        raise ValueError("A difference of proportions needs items of 0 or 1; items of scores are means.")
    return score_difference(before, after, groups, how)


def score_difference(
    before: ArrayLike, after: ArrayLike, groups: Sequence[str] | None = None, how: Bootstrap = DEFAULT
) -> Estimate:
    """Return the mean of scores after minus that before, within -1 to 1, each score within 0 to 1, paired by item.

    Resampling is too narrow in two cases. (1) Few changes in one direction: the interval also contains the one that follows from the exact interval
    of the share of rises among the changed groups; for single items, McNemar's test does not reject that range. A direction that no group took
    counts with changes of 1: if 10 % fall by 0.9 and the others rise by 0.1, a third of draws of ten shows no fall. (2) Few changed groups without a
    decided direction: the bounds are at least as far off as the exact upper bound of a share of which none of n groups showed a case.
    """
    change_N = _differences(before, after)
    return with_rare_changes(mean(change_N, groups, how), group_means(change_N, groups), how)


def with_rare_changes(estimate: Estimate, change_G: Vector, how: Bootstrap) -> Estimate:
    """Return the mean of the changes of groups, -1 to 1, with its interval widened like that of `score_difference`."""
    by_direction = _by_direction(change_G, how.confidence)
    low, high = min(estimate.low, by_direction[0]), max(estimate.high, by_direction[1])
    if few_differ(change_G) and by_direction[0] <= 0 <= by_direction[1]:
        _, unseen = exact(0, estimate.n, (1 - how.confidence) / 2)
        low, high = min(low, estimate.value - unseen), max(high, estimate.value + unseen)
    return Estimate(estimate.value, max(low, -1.0), min(high, 1.0), estimate.n)


def _by_direction(change_G: Vector, confidence: float) -> tuple[float, float]:
    """Return bounds of the mean change from those of the share of rises among the changes; 0 if nothing changed."""
    sizes_C = np.abs(change_G[change_G != 0])
    if not len(sizes_C):
        return 0.0, 0.0
    rises, falls = change_G[change_G > 0], -change_G[change_G < 0]
    rise, fall = (float(side.mean()) if len(side) else 1.0 for side in (rises, falls))
    gains = proportion(len(rises), len(sizes_C), confidence)
    low, high = ((up * rise - (1 - up) * fall) * len(sizes_C) / len(change_G) for up in (gains.low, gains.high))
    return low, high


def group_means(values_N: Vector, groups: Sequence[str] | None) -> Vector:
    """Return the contribution of each group to the mean over items, times the number of groups, (G,)."""
    sums_G2 = sums_by_group(values_N, np.ones_like(values_N), groups)
    means_G = sums_G2[:, 0] / sums_G2[:, 1].mean()
    return np.where(np.abs(means_G) > 1e-12, means_G, 0.0)  # the rest of changes that cancel is a rounding error


def few_differ(change_G: Vector) -> bool:
    """Return True if at most half of the groups change, counted as the effective number of equal changes (Kish)."""
    squares = float((change_G**2).sum())
    return not squares or 2 * float(np.abs(change_G).sum()) ** 2 <= squares * len(change_G)


def pass_at_k(samples: int, passed: int, k: int) -> float:
    """Return the probability that at least one of `k` answers passes, drawn without replacement from `samples` of which `passed` do.

    Its mean over draws of the samples is the probability for `k` fresh answers (Chen et al., eq. 1); 1 - (1 - passed / samples)^k
    would be biased downwards. Raises ValueError if there are fewer than `k` samples.
    """
    if not 1 <= k <= samples or not 0 <= passed <= samples:
        raise ValueError(f"pass@{k} cannot be estimated from {samples} samples of which {passed} passed.")
    return 1 - math.comb(samples - passed, k) / math.comb(samples, k)


def share(values: ArrayLike, groups: Sequence[str] | None = None, how: Bootstrap = DEFAULT) -> Estimate:
    """Return the mean of shares, each within 0 to 1, with its interval over `groups`.

    If nearly all shares are 0, or 1, or another common value (a judge's ties), resampling shows too little variance. The interval therefore also
    contains one that follows from the exact intervals of the numbers of groups above and below that value, times their mean distance from it.
    """
    values_N = vector(values)
    estimate, sums_G2 = mean(values_N, groups, how), sums_by_group(values_N, np.ones_like(values_N), groups)
    usual = (0.0, 1.0, float(np.median(sums_G2[:, 0] / sums_G2[:, 1])))
    rare = [_rare_bounds(values_N, value, groups, how.confidence) for value in usual]
    lows, highs = zip((estimate.low, estimate.high), *filter(None, rare), strict=True)
    return Estimate(estimate.value, max(min(lows), 0.0), min(max(highs), 1.0), estimate.n)


def _rare_bounds(
    values_N: Vector, usual: float, groups: Sequence[str] | None, confidence: float
) -> tuple[float, float] | None:
    """Return bounds from the numbers of groups above and below the value `usual`; None if more than half of the groups differ from it.

    They are `usual` plus and minus the exact bounds of these numbers, times the groups' mean distance, or the largest possible one without groups.
    """
    apart_N = np.where(np.abs(values_N - usual) > 1e-12, values_N - usual, 0.0)
    parts = [sums_by_group(np.maximum(sign * apart_N, 0), np.ones_like(apart_N), groups)[:, 0] for sign in (1, -1)]
    others, num_groups = int(((parts[0] > 0) | (parts[1] > 0)).sum()), len(parts[0])
    if 2 * others > num_groups:
        return None
    bounds = []
    for sums_G, room in zip(parts, (1 - usual, usual), strict=True):
        count = int((sums_G > 0).sum())
        exact = proportion(count, num_groups, confidence)
        size = float(sums_G.sum()) / len(values_N) * num_groups / count if count else room
        bounds.append((exact.low * size, exact.high * size))
    (low, high), (least_below, most_below) = bounds
    return usual + low - most_below, usual + high - least_below


def from_error(value: float, error: float, n: int, confidence: float = 0.95) -> Estimate:
    """Return a mean of `n` items with Student's interval from its standard error. An error of 0 gives no bounds."""
    half = t_quantile(n - 1, (1 + confidence) / 2) * error if n > 1 and error > 0 else math.inf
    return Estimate(value, value - half, value + half, n)


def student(sums_G2: Vector, tail: float) -> tuple[float, float]:
    """Return Student's bounds of the quotient of both sums, each missed with probability `tail`; infinite for a single group.

    The error is that of the jackknife, and the degrees of freedom come from the effective number of groups of equal size (Kish).
    """
    if len(sums_G2) < 2:
        return -math.inf, math.inf
    rest_G2 = sums_G2.sum(axis=0) - sums_G2
    weights_G = sums_G2[:, 1] / sums_G2[:, 1].sum()
    half = t_quantile(1 / float((weights_G**2).sum()) - 1, 1 - tail) * jackknife_error(rest_G2[:, 0] / rest_G2[:, 1])
    value = _quotient(sums_G2.sum(axis=0))
    return value - half, value + half


def jackknife_error(without_G: Vector) -> float:
    """Return the jackknife standard error of a figure from its values without each group."""
    num_groups = len(without_G)
    return math.sqrt((num_groups - 1) / num_groups * float(((without_G - without_G.mean()) ** 2).sum()))


def mcnemar(before: ArrayLike, after: ArrayLike) -> float:
    """Return the exact two-sided p-value of McNemar's test that equally many items get better and worse.

    McNemar 1947. It treats items as independent, so the interval over groups is the more cautious of the two.
    """
    change_N = _differences(before, after)
    gained, lost = int((change_N > 0).sum()), int((change_N < 0).sum())
    changed = gained + lost
    tail = ways = 1
    for k in range(min(gained, lost)):  # each coefficient follows from the one before it, so thousands are fast
        ways = ways * (changed - k) // (k + 1)
        tail += ways
    return min(1.0, 2 * tail / 2**changed)


def vector(values: ArrayLike) -> Vector:
    """Return values as an array. Raises ValueError if they are not a flat list of finite numbers."""
    values_N = np.asarray(values, dtype=np.float64)
    if values_N.ndim != 1 or not np.isfinite(values_N).all():
        raise ValueError("Statistics need a flat list of finite numbers.")
    return values_N


def _differences(before: ArrayLike, after: ArrayLike) -> Vector:
    before_N, after_N = vector(before), vector(after)
    if before_N.shape != after_N.shape:
        raise ValueError(f"A paired comparison needs equal items: {len(before_N)} before, {len(after_N)} after.")
    return after_N - before_N


def sums_by_group(numerators_N: Vector, denominators_N: Vector, groups: Sequence[str] | None) -> Vector:
    """Return both sums of every group, (G, 2), in the order of the groups' names. Groups with a denominator of 0 are left out."""
    if len(numerators_N) != len(denominators_N) or (groups is not None and len(groups) != len(numerators_N)):
        raise ValueError("Numerators, denominators and groups differ in length.")
    if (denominators_N < 0).any() or not denominators_N.sum() > 0:
        raise ValueError(f"The sum of weights is 0: {len(denominators_N)} items have weight 0.")
    owners_N = np.arange(len(numerators_N)) if groups is None else _numbers(groups)
    columns = [np.bincount(owners_N, weights) for weights in (numerators_N, denominators_N)]
    sums_G2 = np.stack(columns, axis=1).astype(np.float64)
    return sums_G2[sums_G2[:, 1] > 0]


def _numbers(groups: Sequence[str]) -> NDArray[np.int64]:
    """Return the number of each item's group in the order of the names, (N,). `np.unique` would sort the items; this sorts only the names."""
    number = {name: place for place, name in enumerate(sorted(set(groups)))}
    return np.fromiter(map(number.__getitem__, groups), np.int64, len(groups))


def _interval(sums_G2: Vector, how: Bootstrap) -> tuple[float, float]:
    """Return the interval of the quotient: Student's for few groups, else the percentile interval."""
    if len(sums_G2) < FEW:
        return student(sums_G2, (1 - how.confidence) / 2)
    sums_2B = resampled(sums_G2, how).T
    return percentiles(sums_2B[0] / sums_2B[1], len(sums_G2), how)


def resampled(sums_GK: Vector, how: Bootstrap) -> Vector:
    """Return the sums over groups in every resample, (B, K), from those of each group."""
    num_groups = len(sums_GK)
    draws = _kept_draws if num_groups * how.resamples <= _DRAWS_KEPT else _draws
    # einsum in place of @: the threads of a BLAS may change last digits, and these bytes must repeat.
    blocks = [np.einsum("bg,gk->bk", draws_BG, sums_GK) for draws_BG in draws(num_groups, how.resamples, how.seed)]
    return np.concatenate(blocks)


def _draws(num_groups: int, resamples: int, seed: int) -> Iterator[Vector]:
    """Yield how often each resample contains each group, (B, G), some resamples at a time."""
    random = np.random.default_rng(seed)
    share_G, rows = np.full(num_groups, 1 / num_groups), max(1, _DRAWS_IN_MEMORY // num_groups)
    for start in range(0, resamples, rows):
        yield random.multinomial(num_groups, share_G, size=min(rows, resamples - start)).astype(np.float64)


@lru_cache(maxsize=2)
def _kept_draws(num_groups: int, resamples: int, seed: int) -> list[Vector]:
    """Return all draws, cached: all figures over the same groups share them, and they take longer than the sums."""
    return list(_draws(num_groups, resamples, seed))


def percentiles(values_B: Vector, num_groups: int, how: Bootstrap) -> tuple[float, float]:
    """Return the percentile interval of a resampled figure, with quantiles widened for few groups (Hesterberg)."""
    from scipy import special

    t = t_quantile(num_groups - 1, (1 + how.confidence) / 2)
    tail = special.ndtr(-math.sqrt(num_groups / (num_groups - 1)) * t)
    low, high = np.quantile(values_B, [tail, 1 - tail])
    return float(low), float(high)


def _quotient(sums_2: Vector) -> float:
    return float(sums_2[0] / sums_2[1])
