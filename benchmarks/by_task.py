"""The loss of each task after a comparison: `python benchmarks/by_task.py mftcoder`, when `ratchet compare mftcoder` has run.

Printed are the losses of the domain's test items by task, means over seeds; then, for each composition, the loss of its worst
task, and that loss less the first composition's with the 95 % interval: items are resampled within each task, and in every
resample each composition has the worst task of its own.
"""

import json
import sys
from pathlib import Path

import numpy as np
import polars as pl
import scratch

from flows import comparison

RESAMPLES = 2000


def main(recipe_name: str) -> None:
    """Print the table."""
    _, recipe = comparison.read([recipe_name])
    rates = comparison.best_rates(recipe, {t: result(recipe, recipe_name, t) for t in comparison.search(recipe)})
    tasks = pl.read_parquet("data/ingested/test.parquet").select(item="id", task="task")
    items: dict[str, list[pl.DataFrame]] = {name: [] for name in recipe.compositions}
    for trial in comparison.finals(recipe, rates):
        if trial.composition:
            result(recipe, recipe_name, trial)
            found = scratch.items(comparison.prepare(recipe, recipe_name, trial) / "results.parquet", "domain")
            items[trial.composition].append(found.join(tasks, on="item", how="left", maintain_order="left"))
    first = next(iter(items.values()))[0]
    names = first["task"].unique().sort().to_list()
    tokens_N = first["tokens"].to_numpy()
    nats_CN = np.array([np.mean([frame["value"].to_numpy() for frame in frames], axis=0) for frames in items.values()])
    members = [np.flatnonzero((first["task"] == name).to_numpy()) for name in names]
    print(pl.DataFrame({"task": names} | dict(zip(items, by_task(nats_CN, tokens_N, members), strict=True))))
    show(list(items), nats_CN, tokens_N, members)


def show(compositions: list[str], nats_CN: np.ndarray, tokens_N: np.ndarray, members: list[np.ndarray]) -> None:
    """The worst task's loss of each composition, and its difference from the first's."""
    generator = np.random.default_rng(0)
    worst_C = by_task(nats_CN, tokens_N, members).max(axis=1)
    drawn_RC = np.array(
        [
            by_task(nats_CN, tokens_N, [generator.choice(place, len(place)) for place in members]).max(axis=1)
            for _ in range(RESAMPLES)
        ]
    )
    for place, name in enumerate(compositions):
        low, high = np.quantile(drawn_RC[:, place] - drawn_RC[:, 0], [0.025, 0.975])
        difference = f"less {compositions[0]}: {worst_C[place] - worst_C[0]:+.4f} [{low:+.4f}, {high:+.4f}]"
        print(f"{name}: worst task {worst_C[place]:.4f}" + (f", {difference}" if place else ""))


def by_task(nats_CN: np.ndarray, tokens_N: np.ndarray, members: list[np.ndarray]) -> np.ndarray:
    """The loss of each composition on each task, in nats per token."""
    return np.stack([nats_CN[:, place].sum(axis=1) / tokens_N[place].sum() for place in members], axis=1)


def result(recipe: comparison.Recipe, name: str, trial: comparison.Trial) -> comparison.Rows:
    """What came of a trial. Stops with a sentence where it has not run."""
    path: Path = comparison.prepare(recipe, name, trial) / "result.json"
    if not path.is_file():
        sys.exit(f"{comparison.title(trial)} has not run: `ratchet compare` first.")
    found: comparison.Rows = json.loads(path.read_text(encoding="utf-8"))
    return found


if __name__ == "__main__":
    main(sys.argv[1])
