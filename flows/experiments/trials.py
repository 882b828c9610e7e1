"""Make the trials of a comparison from its recipe, run them, and estimate the time they take."""

import copy
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from flows.execution.cost import estimates
from flows.execution.cost.estimates import Basis, Range
from flows.experiments import trial_store
from flows.experiments.recipes import Figures, Recipe, Trial
from flows.experiments.trial_store import Runner, TrialPlan
from tasks import configuration


def execute(
    recipe: Recipe, name: str, trials: Sequence[Trial], parent: str, earlier: Iterable[Figures] = ()
) -> dict[Trial, Figures]:
    """Run the trials without a result, and return all results.

    Raises ValueError if data or code have changed since the `earlier` trials of the comparison were planned.
    """
    trial_store.check_unchanged(Path(result["folder"]) for result in earlier)
    folders = [write_folder(recipe, name, trial) for trial in trials]
    with Runner(f"compare {name}", parent, forks="compute" not in recipe.changes) as runner:
        return dict(zip(trials, runner.results(folders), strict=True))


def write_folder(recipe: Recipe, name: str, trial: Trial) -> Path:
    """Write the settings of a trial to its folder, and return the folder."""
    return trial_store.write_folder(
        TrialPlan(
            title=title(trial),
            comparison=name,
            stage=recipe.stage,
            sections=sections_of(recipe, trial),
            trains=trial.composition is not None,
            test=trial.test,
            facts={"composition": trial.composition or "base", "learning_rate": trial.rate, "seed": trial.seed},
        )
    )


def sections_of(recipe: Recipe, trial: Trial) -> dict[str, Any]:
    """Return the sections of a trial's settings: those of params.yaml with the recipe's changes."""
    sections = copy.deepcopy(recipe.settings)
    for section, values in recipe.changes.items():
        sections[section] = sections.get(section, {}) | values
    if trial.composition is None:
        return sections
    changes = dict(recipe.compositions[trial.composition])
    method_changes: dict[str, Any] = changes.pop("methods", {})
    tokens = recipe.tokens if trial.test else (recipe.search_tokens or recipe.tokens)
    section = sections[recipe.stage] | changes | {"max_tokens": tokens, "seed": trial.seed, "epochs": 1000}
    if not trial.test:
        section["save_every"] = 0  # validation during the training chooses nothing
    sections[recipe.stage] = section
    for family in configuration.declaration(recipe.stage).parts:
        sections["methods"].setdefault(section.get(family.removesuffix("s"), "none"), {})
    for name, values in method_changes.items():
        sections["methods"][name] = sections["methods"].get(name, {}) | values
    sections["methods"][section["optimizer"]] |= {"learning_rate": trial.rate}
    return sections


def title(trial: Trial) -> str:
    """Return a trial's name in MLflow."""
    if trial.composition is None:
        return "compare · base"
    return f"compare · {trial.composition} · rate {trial.rate:g} · seed {trial.seed}"


def duration(recipe: Recipe) -> tuple[Range, Basis] | None:
    """Return the seconds of all trials, one after the other, and the basis of that estimate; None if nothing is known.

    It includes neither the cost of a composition's methods nor trials beyond the recipe's learning rates.
    """
    measured = len(recipe.compositions) * len(recipe.seeds)
    of_search, of_final = (
        estimates.for_training(recipe.stage, tokens)
        for tokens in (recipe.search_tokens or recipe.tokens, recipe.tokens)
    )
    of_test = estimates.for_stages(["evaluate"]).get("evaluate")
    if not (of_search and of_final and of_test):
        return None
    parts = [
        (sum(len(recipe.rates(name)) for name in recipe.compositions), of_search.seconds),
        (measured, of_final.seconds),
        (measured + 1, of_test.seconds),
    ]
    low, high = (sum(count * getattr(seconds, end) for count, seconds in parts) for end in ("low", "high"))
    return Range(low, high), of_final.source
