"""How often 95 % intervals of a loss hold the truth, by the number of groups: `python benchmarks/intervals.py [GROUPS …]`.

Groups (modules, files) differ in size and in how hard they are. Beside the interval in use stands that of the bootstrap alone, which
`tasks/core/statistics.py` takes from `statistics.FEW` groups on. `--skewed`: most groups are a little easier than the mean, a few much
harder. `--labels`: how often 95 % intervals of macro-F1 and of its change, and the gate's one-sided bound of 5 %, miss the truth where
labels are rare.
"""

import argparse

import numpy as np

from tasks.core import classification, statistics
from tasks.core.statistics import Bootstrap, Vector

TRUTH = 2.0
"""Nats per token."""
SPREAD = 0.3
"""Standard deviation of a group's loss."""
LABELS = ((0.34, 0.33, 0.33), (0.8, 0.15, 0.05), (0.9, 0.06, 0.04))
"""Shares of the labels among the references."""
CORRECT = ((0.95, 0.5, 0.5), (0.95, 0.8, 0.8))
"""The probability that each label is predicted correctly, before and after."""
POPULATION = 200_000
"""Items that tell the true macro-F1."""
TAIL = 0.05
GROUPS = (2, 3, 4, 5, 6, 8, 10, 15, 20, 40)


def draw(random: np.random.Generator, num_groups: int, *, skewed: bool) -> tuple[Vector, Vector]:
    """Return nats and tokens of each group, (G,) each. Tokens are log-normal: the largest of ten groups has six times the least."""
    tokens_G = 1000 * np.exp(random.normal(0, 0.6, num_groups))
    apart_G = random.exponential(1, num_groups) - 1 if skewed else random.normal(0, 1, num_groups)
    return tokens_G * (TRUTH + SPREAD * apart_G), tokens_G


def bootstrapped(nats_G: Vector, tokens_G: Vector, how: Bootstrap) -> tuple[float, float]:
    """Return the interval of the bootstrap, however few groups there are."""
    sums_B2 = statistics.resampled(np.stack([nats_G, tokens_G], axis=1), how)
    return statistics.percentiles(sums_B2[:, 0] / sums_B2[:, 1], len(nats_G), how)


def coverage(num_groups: int, trials: int, *, skewed: bool = False) -> tuple[float, float]:
    """Return the share of trials in which the interval in use holds the truth, and the share for the bootstrap's."""
    random, hits, hits_of_bootstrap = np.random.default_rng(num_groups), 0, 0
    for seed in range(trials):
        nats_G, tokens_G = draw(random, num_groups, skewed=skewed)
        how = Bootstrap(resamples=1000, seed=seed)
        estimate = statistics.ratio(nats_G, tokens_G, None, how)
        low, high = bootstrapped(nats_G, tokens_G, how)
        hits += estimate.low <= TRUTH <= estimate.high
        hits_of_bootstrap += low <= TRUTH <= high
    return hits / trials, hits_of_bootstrap / trials


def draw_labels(random: np.random.Generator, shares: tuple[float, ...], count: int) -> list[list[str]]:
    """Return the references, and the answers before and after, of the given number of items. Half of the items are equally hard for both."""
    known = len(shares)
    expected, is_alike = random.choice(known, p=shares, size=count), random.random(count) < 0.5
    first, other = random.random(count), (expected + random.integers(1, known, count)) % known
    second = np.where(is_alike, first, random.random(count))
    answers = [
        np.where(luck < np.array(chances)[expected], expected, other)
        for luck, chances in zip((first, second), CORRECT, strict=True)
    ]
    return [list(map(str, column)) for column in (expected, *answers)]


def counted(expected: list[str], predicted: list[str]) -> Vector:
    """Return hits, references and predictions of each label that is a reference, (items, 3 L)."""
    labels = sorted(set(expected))
    references, predictions = (
        np.array([[one == label for label in labels] for one in side]) for side in (expected, predicted)
    )
    return np.concatenate([references & predictions, references, predictions], axis=1).astype(np.float64)


def f1(sums_BK: Vector) -> Vector:
    """Return macro-F1 of summed counts."""
    hits, references, predictions = np.split(sums_BK, 3, axis=-1)
    f1_BL: Vector = 2 * hits / np.maximum(references + predictions, 1)
    return f1_BL.mean(axis=-1)


def misses(shares: tuple[float, ...], num_items: int, trials: int) -> Vector:
    """Return the miss rates: for macro-F1 and for its change, those of the interval in use and of the bootstrap alone; and the gate's bound's."""
    random, missed = np.random.default_rng(num_items), np.zeros(5)
    truth = draw_labels(random, shares, POPULATION)
    first, second = (float(f1(counted(truth[0], answers).sum(axis=0))) for answers in truth[1:])
    groups = [str(item) for item in range(num_items)]
    for seed in range(trials):
        expected, before, after = draw_labels(random, shares, num_items)
        how = Bootstrap(resamples=500, seed=seed)
        # Equal seeds draw equal items for both.
        resampled = [f1(statistics.resampled(counted(expected, answers), how)) for answers in (before, after)]
        level = classification.macro_f1(expected, after, groups, how)
        rise = classification.macro_f1_difference(expected, before, after, groups, how)
        found = (
            ((level.low, level.high), second),
            (statistics.percentiles(resampled[1], num_items, how), second),
            ((rise.low, rise.high), second - first),
            (statistics.percentiles(resampled[1] - resampled[0], num_items, how), second - first),
            ((-1.0, classification.macro_f1_bounds(expected, before, after, groups, TAIL).high), second - first),
        )
        missed += [not low <= true <= high for (low, high), true in found]
    return missed / trials


def main() -> None:
    """Print the coverage for each number of groups."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("groups", nargs="*", type=int, default=GROUPS)
    parser.add_argument("--trials", type=int, default=2000)
    parser.add_argument("--skewed", action="store_true")
    parser.add_argument("--labels", action="store_true")
    options = parser.parse_args()
    if options.labels:
        print("per cent missed      macro-F1: in use  bootstrap   change: in use  bootstrap   gate")
        for shares in LABELS:
            for num_items in options.groups:
                level, of_level, rise, of_rise, gate = 100 * misses(shares, num_items, options.trials)
                name = "/".join(f"{100 * share:.0f}" for share in shares)
                print(
                    f"{name:>8}, {num_items:3} items {level:15.1f} {of_level:10.1f} {rise:16.1f} {of_rise:10.1f} {gate:6.1f}",
                    flush=True,
                )
        return
    print(
        f"{'groups':>6}  {'in use':>7}  bootstrap   (share of {options.trials:,} intervals that hold the truth, per cent)"
    )
    for num_groups in options.groups:
        in_use, bootstrap = coverage(num_groups, options.trials, skewed=options.skewed)
        print(f"{num_groups:6}  {100 * in_use:7.1f}  {100 * bootstrap:9.1f}", flush=True)


if __name__ == "__main__":
    main()
