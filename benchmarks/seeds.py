"""Gain of tuning over several seeds: `python benchmarks/seeds.py 0 1 2`, after `ratchet use workstation && ratchet run`.

Trains and measures round r0 for each seed on the base model and the data of this workspace, in a scratch workspace that links them,
and prints the paired differences to the base model with 95 % intervals. This workspace is not changed.
"""

import tempfile
from pathlib import Path

import polars as pl
import scratch

from tasks.core import statistics


def main(seeds: list[int]) -> None:
    """Print one line for each seed and measure."""
    base = scratch.ROOT / "data/results/reference/base.parquet"
    print(f"{'seed':>4}  {'measure':<12} {'base':>8} {'tuned':>8}   difference [95 % interval]")
    for seed in seeds:
        with tempfile.TemporaryDirectory() as folder:
            tuned = train_and_measure(Path(folder), seed)
            for measure in ("domain", "domain_text", "general"):
                line = compare(scratch.items(base, measure), scratch.items(tuned, measure))
                print(f"{seed:>4}  {measure:<12} {line}", flush=True)


def train_and_measure(workspace: Path, seed: int) -> Path:
    """Train round r0 with `seed` in a scratch workspace and return its results file.

    Losses only: no answers are generated.
    """
    scratch.link(workspace, "models/base", "models/pretrained", "models/embedder")
    params = scratch.settings()
    params["tune"]["seed"] = seed
    params["evaluate"]["pass_items"] = 0
    scratch.run(workspace, params, "tune", "r0")
    scratch.run(workspace, params, "evaluate", "r0")
    return workspace / "data/results/rounds/r0.parquet"


def compare(base: pl.DataFrame, tuned: pl.DataFrame) -> str:
    """Format both losses of a measure and their paired difference."""
    tokens = base["tokens"].sum()
    gap = statistics.ratio_difference(base["value"], tuned["value"], base["tokens"], base["group"].to_list())
    losses = [frame["value"].sum() / tokens for frame in (base, tuned)]
    return f"{losses[0]:8.4f} {losses[1]:8.4f}   {gap.value:+.4f} [{gap.low:+.4f}, {gap.high:+.4f}]"


if __name__ == "__main__":
    main(scratch.seeds(__doc__))
