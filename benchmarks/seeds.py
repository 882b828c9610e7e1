"""Does the main job hold for other seeds? `python benchmarks/seeds.py 0 1 2` after `ratchet run`.

Trains and measures round r0 anew for each seed on the base and the data of this workspace (each in a scratch workspace that
links them), and prints the paired differences to the base with their 95 % intervals. Nothing of this workspace changes.
"""

import re
import subprocess
import sys
import tempfile
from pathlib import Path

import polars as pl

from tasks.core import statistics

ROOT = Path.cwd()
LINKED = ("tasks", "flows", "models/base", "models/embedder", "data/ingested", "data/rounds", "data/raw")


def main(seeds: list[int]) -> None:
    """Print one line a seed and measure."""
    base = results(ROOT / "data/results/reference/base.parquet")
    print(f"{'seed':>4}  {'measure':<12} {'base':>8} {'tuned':>8}   difference [95 % interval]")
    for seed in seeds:
        with tempfile.TemporaryDirectory() as folder:
            tuned = results(train_and_measure(Path(folder), seed))
        for measure in ("domain", "domain_text", "general"):
            print(f"{seed:>4}  {compare(base, tuned, measure)}", flush=True)


def train_and_measure(workspace: Path, seed: int) -> Path:
    """The per-item results of round r0, trained with `seed` in a scratch workspace."""
    for name in LINKED:
        (workspace / name).parent.mkdir(parents=True, exist_ok=True)
        (workspace / name).symlink_to(ROOT / name)
    (workspace / "params.yaml").write_text(with_seed((ROOT / "params.yaml").read_text(), seed))
    for command in (["tune", "r0"], ["evaluate", "r0"]):
        done = subprocess.run(
            [sys.executable, "-m", "tasks.run", *command], cwd=workspace, capture_output=True, text=True
        )
        if done.returncode:
            sys.exit(done.stdout + done.stderr)
    return workspace / "data/results/rounds/r0.parquet"


def with_seed(params: str, seed: int) -> str:
    """The settings with another seed of training. Only losses are compared, so no answer is generated."""
    before, after = params.split("\ntune:\n")
    after = re.sub(r"(?m)^  seed: \d+$", f"  seed: {seed}", after, count=1)
    return before + "\ntune:\n" + re.sub(r"(?m)^  pass_items: \d+$", "  pass_items: 0", after)


def results(path: Path) -> pl.DataFrame:
    """The items of one model."""
    return pl.read_parquet(path)


def compare(base: pl.DataFrame, tuned: pl.DataFrame, measure: str) -> str:
    """Both losses of a measure and their paired difference."""
    rows = base.filter(pl.col("measure") == measure).join(tuned, on=["measure", "item"], suffix="_tuned")
    tokens = rows["tokens"].sum()
    gap = statistics.ratio_difference(rows["value"], rows["value_tuned"], rows["tokens"], rows["group"].to_list())
    losses = [rows[column].sum() / tokens for column in ("value", "value_tuned")]
    return f"{measure:<12} {losses[0]:8.4f} {losses[1]:8.4f}   {gap.value:+.4f} [{gap.low:+.4f}, {gap.high:+.4f}]"


if __name__ == "__main__":
    main([int(seed) for seed in sys.argv[1:]] or [0, 1, 2])
