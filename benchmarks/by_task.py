"""Loss of each task after a comparison: `python benchmarks/by_task.py mftcoder`, after `ratchet compare mftcoder`.

Prints the losses of the domain's test items by task, means over seeds; then, for each composition, the loss of the worst task of each
training, and its difference to the first composition's: for each seed, with the 95 % interval over seeds (Student's t), and with the
interval over items, which are resampled within each task for fixed seeds. Last, by how much each composition lowers the loss of the task that
gains least against the base.
Shapes: C = compositions, S = seeds, N = test items, K = tasks, R = resamples.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import polars as pl
import scratch

from flows.experiments import recipes, results_table, search, trials
from tasks.core import statistics

RESAMPLES = 2000


def main(recipe_name: str) -> None:
    """Print the table."""
    _, recipe = recipes.read([recipe_name])
    searched: dict[recipes.Trial, recipes.Figures] = {}
    searching = search.grid(recipe)
    while searching:
        searched |= {trial: result(recipe, recipe_name, trial) for trial in searching}
        searching = search.widened(recipe, searched)
    rates = search.best_rates(recipe, searched)
    tasks = pl.read_parquet("data/ingested/test.parquet").select(item="id", task="task")
    items: dict[str, list[pl.DataFrame]] = {name: [] for name in recipe.compositions}
    for trial in search.finals(recipe, rates):
        if trial.composition:
            result(recipe, recipe_name, trial)
            rows = scratch.items(trials.write_folder(recipe, recipe_name, trial) / "results.parquet", "domain")
            items[trial.composition].append(rows.join(tasks, on="item", how="left", maintain_order="left"))
    first = next(iter(items.values()))[0]
    names = first["task"].unique().sort().to_list()
    tokens_N = first["tokens"].to_numpy()
    nats_CSN = np.array([[frame["value"].to_numpy() for frame in frames] for frames in items.values()])
    members = [np.flatnonzero((first["task"] == name).to_numpy()) for name in names]
    losses_CK = by_task(nats_CSN, tokens_N, members).mean(axis=1)
    print(pl.DataFrame({"task": names} | dict(zip(items, losses_CK, strict=True))))
    untrained = trials.write_folder(recipe, recipe_name, recipes.Trial(None, 0.0, 0, True))
    base = scratch.items(untrained / "results.parquet", "domain")
    show(recipe_name, list(items), names, nats_CSN, base["value"].to_numpy(), tokens_N, members)


def show(
    recipe_name: str,
    compositions: list[str],
    tasks: list[str],
    nats_CSN: np.ndarray,
    base_N: np.ndarray,
    tokens_N: np.ndarray,
    members: list[np.ndarray],
) -> None:
    """Print the worst task's loss of each composition, and its difference to the first composition's. `docs/ledger.py` reads the losses as
    `worst`, and the gains against the base of the task that gains least as `least_gain`, of comparison `<recipe>-by-task`; composition `base`
    has a gain of 0."""
    losses_CSK, base_K = by_task(nats_CSN, tokens_N, members), by_task(base_N, tokens_N, members)
    worst_CS, gains_CS = losses_CSK.max(axis=-1), (base_K - losses_CSK).min(axis=-1)
    rows = [
        {"composition": name, "seed": seed, "worst": float(worst), "least_gain": round(float(gain), 6)}
        for name, worst_S, gains_S in zip(compositions, worst_CS, gains_CS, strict=True)
        for seed, (worst, gain) in enumerate(zip(worst_S, gains_S, strict=True))
    ]
    rows += [
        {"composition": "base", "seed": seed, "worst": float(base_K.max()), "least_gain": 0.0}
        for seed in range(len(gains_CS[0]))
    ]
    results_table.save_figures(f"{recipe_name}-by-task", rows)
    drawn_RC = resampled(nats_CSN, tokens_N, members)
    for place, name in enumerate(compositions):
        called = ", ".join(sorted({tasks[task] for task in losses_CSK[place].argmax(axis=-1)}))
        print(f"{name}: worst task {worst_CS[place].mean():.4f} ({called})")
        if place:
            difference_S = worst_CS[place] - worst_CS[0]
            seeds = statistics.over_seeds(difference_S)
            low, high = np.quantile(drawn_RC[:, place] - drawn_RC[:, 0], [0.025, 0.975])
            print(f"  less {compositions[0]}, seed by seed: {', '.join(f'{value:+.4f}' for value in difference_S)}")
            print(f"  over seeds: {seeds.value:+.4f} [{seeds.low:+.4f}, {seeds.high:+.4f}]")
            print(f"  over items, with these seeds: {seeds.value:+.4f} [{low:+.4f}, {high:+.4f}]")
    for place, name in enumerate(compositions):
        called = ", ".join(sorted({tasks[task] for task in (base_K - losses_CSK[place]).argmin(axis=-1)}))
        print(f"{name}: the task that gains least gains {gains_CS[place].mean():.4f} ({called})")


def resampled(nats_CSN: np.ndarray, tokens_N: np.ndarray, members: list[np.ndarray]) -> np.ndarray:
    """Return the worst task's loss, mean over seeds, for resampled items of each task: (R, C)."""
    generator = np.random.default_rng(0)
    draws = ([generator.choice(place, len(place)) for place in members] for _ in range(RESAMPLES))
    return np.array([by_task(nats_CSN, tokens_N, drawn).max(axis=-1).mean(axis=-1) for drawn in draws])


def by_task(nats_XN: np.ndarray, tokens_N: np.ndarray, members: list[np.ndarray]) -> np.ndarray:
    """Return the loss on each task in nats per token; leading axes are kept: (…, K)."""
    return np.stack([nats_XN[..., place].sum(axis=-1) / tokens_N[place].sum() for place in members], axis=-1)


def result(recipe: recipes.Recipe, name: str, trial: recipes.Trial) -> recipes.Figures:
    """Return the result of a trial; exit with a message if it has not run."""
    path: Path = trials.write_folder(recipe, name, trial) / "result.json"
    if not path.is_file():
        sys.exit(f"{trials.title(trial)} has not run: `ratchet compare` first.")
    row: recipes.Figures = json.loads(path.read_text(encoding="utf-8"))
    return row


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", help="name of a recipe of params/compare")
    main(parser.parse_args().recipe)
