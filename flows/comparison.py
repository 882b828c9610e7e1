"""Comparisons of compositions on one task at equal tokens: what is run. `flows.standings` tells what came of it.

Every composition has its learning rate chosen on validation, among the same number of values and beyond them where the first or
the last is the best, or none is better than no training; the best one is trained with every seed and measured on the test sets.
A finished trial is never run again: its folder is named by everything it follows from.
"""

import hashlib
import itertools
import json
import math
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from flows import estimates
from flows.estimates import Range, Source
from tasks import methods, settings
from tasks.core import environment
from tasks.core.params import Params
from tasks.core.training import FAMILIES
from tasks.io import params, progress, provenance

RECIPES = Path("params/compare")
FOLDER = Path(".ratchet/compare")
RATES = (1e-4, 3e-4, 1e-3, 3e-3)
BEYOND = 3
"""The factor by which a search goes beyond the rates that were tried, and how often it may."""
MEASURES = {"tune": "domain", "pretrain": "domain_text"}
"""What each stage is to make better, as `evaluate` calls it."""
ITEMS = {"tune": "r0", "pretrain": None}
"""Whose data each stage trains on."""
BASES = {"tune": "models/pretrained", "pretrain": "models/base"}
"""What each stage trains on from."""
Rows = dict[str, Any]


class Recipe(Params):
    """A comparison. The data, and all settings that it does not name, are those of params.yaml."""

    compositions: dict[str, dict[str, Any]] = Field(min_length=1)
    """Name → what differs in the section of the stage (`adapter: lora`), and under `methods` in theirs. The first is the one
    that the others are compared with."""
    learning_rates: tuple[float, ...] | dict[str, tuple[float, ...]] = RATES
    """Values that are tried for each composition on validation: for all, or by name. Where the best is the first or the last of
    them, the search goes on beyond it; where none is better than no training, beyond the largest."""
    seeds: int = Field(3, ge=1)
    """The best learning rate of each is trained so many times."""
    tokens: int = Field(40_000, ge=1)
    """What each training that is measured trains on."""
    search_tokens: int | None = Field(None, ge=1)
    """What those train on that choose learning rates; as much as the others where nothing is said."""
    stage: Literal["tune", "pretrain"] = "tune"
    """Where the compositions train."""
    changes: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """What differs from params.yaml for all compositions and for the base, by section: `{tune: {pack_tokens: 256}}`."""

    def rates(self, name: str) -> tuple[float, ...]:
        """The learning rates to try for a composition. Raises ValueError where they are missing, or too few to choose from."""
        rates = self.learning_rates if isinstance(self.learning_rates, tuple) else self.learning_rates.get(name, ())
        if len(rates) < 4:
            raise ValueError(f"learning_rates of {name}: a fair choice needs at least 4 values (found {len(rates)}).")
        return rates


@dataclass(frozen=True)
class Trial:
    """One training."""

    composition: str | None
    """None for the base, which is only measured."""
    rate: float
    seed: int
    test: bool


def read(names: Sequence[str], **options: Any) -> tuple[str, Recipe]:
    """The name and the recipe that arguments ask for: a file of params/compare, or methods, one composition each."""
    given = {name: value for name, value in options.items() if value is not None}
    known = {path.stem: path for path in sorted(RECIPES.glob("*.yaml"))}
    file = known.get(names[0], Path(names[0]))
    if len(names) == 1 and file.is_file():
        if script := params.parse(file)[0].get("benchmark"):
            raise ValueError(f"{file}: its sides differ in more than what trains. `python {script}` runs it.")
        recipe: Recipe = params.read(file, Recipe)
        return file.stem, Recipe.model_validate(recipe.model_dump() | given)
    try:
        compositions = {name: _alone(name) for name in names}
    except ValueError as error:
        raise ValueError(f"{error} Recipes: {', '.join(known) or 'none'}.") from None
    return "-".join(names), Recipe(compositions=compositions, **given)


def check(recipe: Recipe) -> None:
    """Raise FileNotFoundError where what the trials read is not there yet, ValueError where settings ask for several processes."""
    if settings.load().compute.processes > 1:
        raise ValueError("compute.processes: a comparison trains in one process, so that costs compare. Set it to 1.")
    item = ITEMS[recipe.stage]
    reads, _ = settings.files(recipe.stage, item, settings.load())
    if missing := [str(path) for path in reads.values() if not path.exists()]:
        stage = f"{recipe.stage}@{item}" if item else recipe.stage
        raise FileNotFoundError(
            f"{', '.join(missing)}: not there yet. `ratchet run {stage}` makes what a comparison needs."
        )


def _alone(name: str) -> dict[str, Any]:
    """The composition whose one part that is not neutral is this method."""
    parts = {"adapter": "none", "selector": "all"}
    families = methods.families_of(name)
    for family in FAMILIES:
        if family in families:
            return parts | {family.removesuffix("s"): name}
    raise ValueError(f"{name} is one of the {families[0]}, which do not train: a comparison is of trainings.")


def search(recipe: Recipe) -> list[Trial]:
    """The trials that choose learning rates."""
    return [Trial(name, rate, 0, False) for name in recipe.compositions for rate in recipe.rates(name)]


def widened(recipe: Recipe, results: Mapping[Trial, Rows]) -> list[Trial]:
    """The trials that go on with the searches that found no best rate between two others, three in each at most."""
    found = []
    for name, best in best_rates(recipe, results).items():
        further = beyond(name, best, results)
        if further and len(_tried(name, results)) < len(set(recipe.rates(name))) + BEYOND:
            found.append(Trial(name, further, 0, False))
    return found


def beyond(name: str, best: float, results: Mapping[Trial, Rows]) -> float | None:
    """The rate to try next where the best is the smallest or the largest tried; None where it lies between two others.

    A best one that is no better than no training lies on level ground, and asks for larger rates too: adapters of few numbers want
    rates a hundred times those of others.
    """
    tried = _tried(name, results)
    if best == min(tried):
        return float(f"{best / BEYOND:.3g}")
    largest = max(tried)
    level = not learned(name, results) and math.isfinite(tried[largest]["validation"])
    return float(f"{largest * BEYOND:.3g}") if best == largest or level else None


def learned(name: str, results: Mapping[Trial, Rows]) -> bool:
    """Whether a rate that was tried is better than no training, on validation."""
    return any(row["validation"] < _before(row) for row in _tried(name, results).values())


def _before(row: Rows) -> float:
    """The validation loss before the first step."""
    measured: dict[str, list[tuple[int, float]]] = row["measured"]
    return measured.get("validation", measured.get("domain", [(0, math.inf)]))[0][1]


def _tried(name: str, results: Mapping[Trial, Rows]) -> dict[float, Rows]:
    """The results of a composition's search, by rate."""
    return {trial.rate: row for trial, row in results.items() if trial.composition == name and not trial.test}


def finals(recipe: Recipe, best: Mapping[str, float]) -> list[Trial]:
    """The trials that are measured on the test sets, and the base."""
    seeds = itertools.product(recipe.compositions, range(recipe.seeds))
    return [Trial(None, 0.0, 0, True), *(Trial(name, best[name], seed, True) for name, seed in seeds)]


def duration(recipe: Recipe) -> tuple[Range, Source] | None:
    """The seconds of all trials, one after the other, and what their trainings' rest on; None where nothing is known.

    What a composition's methods cost is not in it, nor how far a search goes on.
    """
    measured = len(recipe.compositions) * recipe.seeds
    of_search, of_final = (
        estimates.of_training(recipe.stage, tokens) for tokens in (recipe.search_tokens or recipe.tokens, recipe.tokens)
    )
    of_test = estimates.of(["evaluate"]).get("evaluate")
    if not (of_search and of_final and of_test):
        return None
    parts = [(len(search(recipe)), of_search.seconds), (measured, of_final.seconds), (measured + 1, of_test.seconds)]
    low, high = (sum(count * getattr(seconds, end) for count, seconds in parts) for end in ("low", "high"))
    return Range(low, high), of_final.source


def best_rates(recipe: Recipe, results: Mapping[Trial, Rows]) -> dict[str, float]:
    """The learning rate of the lowest validation loss, by composition.

    Raises ValueError for one that diverged at every rate.
    """
    found: dict[str, tuple[float, float]] = {}
    for trial, rows in results.items():
        if trial.composition and not trial.test and math.isfinite(loss := rows["validation"]):
            found[trial.composition] = min(found.get(trial.composition, (math.inf, 0.0)), (loss, trial.rate))
    if diverged := [name for name in recipe.compositions if name not in found]:
        raise ValueError(f"{', '.join(diverged)}: no learning rate gave a finite validation loss. Try smaller ones.")
    return {name: found[name][1] for name in recipe.compositions}


def choose(recipe: Recipe, name: str, parent: str) -> dict[Trial, Rows]:
    """Run the trials that choose learning rates, those beyond the recipe's included, and give back their results."""
    results: dict[Trial, Rows] = {}
    trials = search(recipe)
    while trials:
        results |= execute(recipe, name, trials, parent)
        trials = widened(recipe, results)
    return results


def execute(recipe: Recipe, name: str, trials: Sequence[Trial], parent: str) -> dict[Trial, Rows]:
    """Run what has no result yet, one process after the other, and give back all results."""
    results = {}
    for trial in progress.track(trials, label=f"compare {name}", total=len(trials), unit="trial"):
        folder = prepare(recipe, name, trial)
        if not (folder / "result.json").is_file():
            env = os.environ | {environment.PARENT_RUN: parent}
            done = subprocess.run([sys.executable, "-m", "tasks.trial", str(folder)], env=env, check=False)
            if done.returncode:
                raise RuntimeError(
                    f"{title(trial)} failed; the lines above say why. What is finished is kept in {FOLDER}."
                )
        results[trial] = json.loads((folder / "result.json").read_text(encoding="utf-8")) | {"folder": str(folder)}
    return results


def prepare(recipe: Recipe, name: str, trial: Trial) -> Path:
    """The folder of a trial with its settings, named by all that its result follows from."""
    import yaml

    whole = settings_of(recipe, trial)
    text = yaml.safe_dump(whole, sort_keys=False)
    partial = FOLDER / "settings.yaml"
    FOLDER.mkdir(parents=True, exist_ok=True)
    partial.write_text(text, encoding="utf-8")
    everything = settings.load(partial)
    key = [settings.key(recipe.stage, ITEMS[recipe.stage], everything) if trial.composition else ""]
    if trial.test:
        read_by_test = ("data/ingested/test.parquet", "data/ingested/test_documents.parquet", BASES[recipe.stage])
        key += [provenance.digest(Path(path)) for path in read_by_test]
        key += [settings.for_stage("evaluate", everything).model_dump_json()]
        key += [provenance.code_digest(settings.code("evaluate", everything))]
    folder = FOLDER / hashlib.sha256(json.dumps(key).encode()).hexdigest()[:16]
    whole["models"] = {"trial": _model(recipe, trial, folder)}
    folder.mkdir(exist_ok=True)
    (folder / "params.yaml").write_text(yaml.safe_dump(whole, sort_keys=False), encoding="utf-8")
    asked = {
        "stage": recipe.stage if trial.composition else None,
        "test": trial.test,
        "title": title(trial),
        "tags": {"ratchet.compare": name},
        "facts": {"composition": trial.composition or "base", "learning_rate": trial.rate, "seed": trial.seed},
    }
    (folder / "trial.json").write_text(json.dumps(asked), encoding="utf-8")
    return folder


def settings_of(recipe: Recipe, trial: Trial) -> dict[str, Any]:
    """The whole settings of a trial: those of params.yaml, and what the recipe changes."""
    whole: dict[str, Any] = settings.load().model_dump(mode="json", exclude_none=True, by_alias=True)
    for section, values in recipe.changes.items():
        whole[section] = whole.get(section, {}) | values
    if trial.composition is None:
        return whole
    changes = dict(recipe.compositions[trial.composition])
    own_methods: dict[str, Any] = changes.pop("methods", {})
    tokens = recipe.tokens if trial.test else (recipe.search_tokens or recipe.tokens)
    section = whole[recipe.stage] | changes | {"max_tokens": tokens, "seed": trial.seed, "epochs": 1000}
    if not trial.test:
        section["save_every"] = 0  # what is measured on the way chooses nothing
    whole[recipe.stage] = section
    for family in settings.declaration(recipe.stage).parts:
        whole["methods"].setdefault(section[family.removesuffix("s")], {})
    for name, values in own_methods.items():
        whole["methods"][name] = whole["methods"].get(name, {}) | values
    whole["methods"][section["optimizer"]] |= {"learning_rate": trial.rate}
    return whole


def _model(recipe: Recipe, trial: Trial, folder: Path) -> dict[str, str]:
    """The entry of the `models` map by which `evaluate` finds what a trial trained."""
    base = BASES[recipe.stage]
    return {"group": "compare", "path": str(folder / "model") if trial.composition else base, "base": base}


def title(trial: Trial) -> str:
    """A trial's name in MLflow."""
    if trial.composition is None:
        return "compare · base"
    return f"compare · {trial.composition} · rate {trial.rate:g} · seed {trial.seed}"
