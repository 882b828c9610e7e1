"""Choose the learning rate of every composition on validation, among the same number of values, and beyond these if needed.

A search continues beyond the first or the last value if that is the best, and beyond the largest if none is better than no training.
"""

import itertools
import math
from collections.abc import Mapping

from flows.experiments import trials
from flows.experiments.recipes import Figures, Recipe, Trial

BEYOND = 3
"""The factor by which a search goes beyond the tried rates, and the largest number of such steps."""


def grid(recipe: Recipe) -> list[Trial]:
    """Return the trials of the recipe's learning rates."""
    return [Trial(name, rate, 0, False) for name in recipe.compositions for rate in recipe.rates(name)]


def widened(recipe: Recipe, results: Mapping[Trial, Figures]) -> list[Trial]:
    """Return the next trial of each search whose best rate is not between two others, at most three for each search."""
    further_trials = []
    for name, best in best_rates(recipe, results).items():
        further = beyond(name, best, results)
        if further and len(_tried(name, results)) < len(set(recipe.rates(name))) + BEYOND:
            further_trials.append(Trial(name, further, 0, False))
    return further_trials


def beyond(name: str, best: float, results: Mapping[Trial, Figures]) -> float | None:
    """Return the rate to try next if the best is the smallest or the largest tried; None if it lies between two others.

    If the best rate is no better than no training, none of the rates had an effect, so larger ones are tried, unless the largest
    diverged. Adapters with few parameters need rates a hundred times as large as others.
    """
    tried = _tried(name, results)
    largest = max(tried)
    level = not learned(name, results) and math.isfinite(tried[largest]["validation"])
    if best == min(tried) and not level:
        return float(f"{best / BEYOND:.3g}")
    return float(f"{largest * BEYOND:.3g}") if best == largest or level else None


def learned(name: str, results: Mapping[Trial, Figures]) -> bool:
    """Return True if a tried rate is better than no training, on validation."""
    return any(row["validation"] < _untrained_loss(row) for row in _tried(name, results).values())


def _untrained_loss(row: Figures) -> float:
    """Return the validation loss before the first step."""
    measured: dict[str, list[tuple[int, float]]] = row["measured"]
    return measured.get("validation", measured.get("domain", [(0, math.inf)]))[0][1]


def _tried(name: str, results: Mapping[Trial, Figures]) -> dict[float, Figures]:
    """Return the results of a composition's search, by rate."""
    return {trial.rate: row for trial, row in results.items() if trial.composition == name and not trial.test}


def finals(recipe: Recipe, best: Mapping[str, float]) -> list[Trial]:
    """Return the trials that are measured on the test sets, and the base."""
    seeds = itertools.product(recipe.compositions, recipe.seeds)
    return [Trial(None, 0.0, 0, True), *(Trial(name, best[name], seed, True) for name, seed in seeds)]


def best_rates(recipe: Recipe, results: Mapping[Trial, Figures]) -> dict[str, float]:
    """Return the learning rate with the lowest validation loss, by composition.

    Raises ValueError for a composition that diverged at every rate.
    """
    lowest: dict[str, tuple[float, float]] = {}
    for trial, row in results.items():
        if trial.composition and not trial.test and math.isfinite(loss := row["validation"]):
            lowest[trial.composition] = min(lowest.get(trial.composition, (math.inf, 0.0)), (loss, trial.rate))
    if diverged := [name for name in recipe.compositions if name not in lowest]:
        raise ValueError(f"{', '.join(diverged)}: no learning rate gave a finite validation loss. Try smaller ones.")
    return {name: lowest[name][1] for name in recipe.compositions}


def choose(recipe: Recipe, name: str, parent: str) -> dict[Trial, Figures]:
    """Run the trials that choose learning rates, including those beyond the recipe's, and return their results."""
    results: dict[Trial, Figures] = {}
    chosen = grid(recipe)
    while chosen:
        results |= trials.execute(recipe, name, chosen, parent, results.values())
        chosen = widened(recipe, results)
    return results
