"""How often 95 % intervals of a loss hold the truth, by the number of groups: `python benchmarks/intervals.py [GROUPS …]`.

Groups (modules, files) differ in size and in how hard they are. Beside the interval in use stands that of the bootstrap alone, which
`tasks/core/statistics.py` takes from `statistics.FEW` groups on. `--skewed`: most groups are a little easier than the mean, a few much
harder.
"""

import argparse

import numpy as np

from tasks.core import statistics
from tasks.core.statistics import Bootstrap, Vector

TRUTH = 2.0
"""Nats per token."""
SPREAD = 0.3
"""Standard deviation of a group's loss."""
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


def main() -> None:
    """Print the coverage for each number of groups."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("groups", nargs="*", type=int, default=GROUPS)
    parser.add_argument("--trials", type=int, default=2000)
    parser.add_argument("--skewed", action="store_true")
    options = parser.parse_args()
    print(
        f"{'groups':>6}  {'in use':>7}  bootstrap   (share of {options.trials:,} intervals that hold the truth, per cent)"
    )
    for num_groups in options.groups:
        in_use, bootstrap = coverage(num_groups, options.trials, skewed=options.skewed)
        print(f"{num_groups:6}  {100 * in_use:7.1f}  {100 * bootstrap:9.1f}", flush=True)


if __name__ == "__main__":
    main()
