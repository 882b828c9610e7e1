"""Run the trials of a comparison, one process after the other, and estimate the time they take.

A finished trial is never run again: its folder is named by a hash of everything its result depends on.
"""

import hashlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from flows.execution.cost import estimates
from flows.execution.cost.estimates import Basis, Range
from flows.experiments.recipes import BASES, ITEMS, Figures, Recipe, Trial
from tasks import configuration
from tasks.core import environment
from tasks.forkserver import client
from tasks.io import provenance
from tasks.io.system import progress

FOLDER = Path(".ratchet/compare")
RESULT = "result.json"


def execute(recipe: Recipe, name: str, trials: Sequence[Trial], parent: str) -> dict[Trial, Figures]:
    """Run the trials without a result, one process after the other, and return all results."""
    folders = {trial: prepare(recipe, name, trial) for trial in trials}
    waiting = [trial for trial in trials if not (folders[trial] / RESULT).is_file()]
    with _fork_server(recipe, waiting):
        for trial in progress.track(trials, label=f"compare {name}", total=len(trials), unit="trial"):
            if trial in waiting and _run(folders[trial], os.environ | {environment.PARENT_RUN: parent}):
                raise RuntimeError(
                    f"{title(trial)} failed; the lines above say why. What is finished is kept in {FOLDER}."
                )
    return {
        trial: json.loads((folder / RESULT).read_text(encoding="utf-8")) | {"folder": str(folder)}
        for trial, folder in folders.items()
    }


@contextmanager
def _fork_server(recipe: Recipe, trials: Sequence[Trial]) -> Iterator[None]:
    """Serve forks within the block if several trials are to run. It has the threads of params.yaml, so a recipe that sets others has none.

    The first trial waits for it: memory is compared between trials, and a child has what the server imported.
    """
    if len(trials) < 2 or "compute" in recipe.changes or not client.is_wanted():
        yield
        return
    server = client.start(os.getpid())
    client.wait_until_ready(server)
    try:
        yield
    finally:
        server.terminate()
        server.wait()


def _run(folder: Path, variables: Mapping[str, str]) -> int:
    """Run the trial in a folder, in a child of the fork server or in a process of its own, and return the exit code."""
    code = client.run([str(folder)], "tasks.run_trial", name="trial", variables=variables, ends_with_parent=False)
    if code is None:
        command = [sys.executable, "-m", "tasks.run_trial", str(folder)]
        code = subprocess.run(command, env=variables, check=False).returncode
    if code == 128 + signal.SIGINT:
        raise KeyboardInterrupt
    return code


def prepare(recipe: Recipe, name: str, trial: Trial) -> Path:
    """Write the settings of a trial to its folder, which is named by everything its result depends on, and return the folder."""
    import yaml

    sections = sections_of(recipe, trial)
    text = yaml.safe_dump(sections, sort_keys=False)
    partial = FOLDER / "settings.yaml"
    FOLDER.mkdir(parents=True, exist_ok=True)
    partial.write_text(text, encoding="utf-8")
    config = configuration.load(partial)
    key = [configuration.key(recipe.stage, ITEMS[recipe.stage], config) if trial.composition else ""]
    if trial.test:
        reads = configuration.declaration("evaluate").reads
        read_by_test = (reads["test"], reads["documents"], reads["decisions"], BASES[recipe.stage])
        key += [provenance.digest(Path(path)) for path in read_by_test]
        key += [configuration.for_stage("evaluate", config).model_dump_json()]
        key += [provenance.code_digest(configuration.code("evaluate", config))]
    folder = FOLDER / hashlib.sha256(json.dumps(key).encode()).hexdigest()[:16]
    sections["models"] = {"trial": _model(recipe, trial, folder)}
    folder.mkdir(exist_ok=True)
    (folder / "params.yaml").write_text(yaml.safe_dump(sections, sort_keys=False), encoding="utf-8")
    request = {
        "stage": recipe.stage if trial.composition else None,
        "test": trial.test,
        "title": title(trial),
        "tags": {"ratchet.compare": name},
        "facts": {"composition": trial.composition or "base", "learning_rate": trial.rate, "seed": trial.seed},
    }
    (folder / "trial.json").write_text(json.dumps(request), encoding="utf-8")
    return folder


def sections_of(recipe: Recipe, trial: Trial) -> dict[str, Any]:
    """Return the sections of a trial's settings: those of params.yaml with the recipe's changes."""
    sections: dict[str, Any] = configuration.load().model_dump(mode="json", exclude_none=True, by_alias=True)
    for section, values in recipe.changes.items():
        sections[section] = sections.get(section, {}) | values
    if trial.composition is None:
        return sections
    changes = dict(recipe.compositions[trial.composition])
    method_changes: dict[str, Any] = changes.pop("methods", {})
    tokens = recipe.tokens if trial.test else (recipe.search_tokens or recipe.tokens)
    section = sections[recipe.stage] | changes | {"max_tokens": tokens, "seed": trial.seed, "epochs": 1000}
    if not trial.test:
        section["save_every"] = 0  # what is measured on the way chooses nothing
    sections[recipe.stage] = section
    for family in configuration.declaration(recipe.stage).parts:
        sections["methods"].setdefault(section[family.removesuffix("s")], {})
    for name, values in method_changes.items():
        sections["methods"][name] = sections["methods"].get(name, {}) | values
    sections["methods"][section["optimizer"]] |= {"learning_rate": trial.rate}
    return sections


def _model(recipe: Recipe, trial: Trial, folder: Path) -> dict[str, str]:
    """Return the entry of the `models` map by which `evaluate` finds the model of a trial."""
    base = BASES[recipe.stage]
    return {"group": "compare", "path": str(folder / "model") if trial.composition else base, "base": base}


def title(trial: Trial) -> str:
    """Return a trial's name in MLflow."""
    if trial.composition is None:
        return "compare · base"
    return f"compare · {trial.composition} · rate {trial.rate:g} · seed {trial.seed}"


def duration(recipe: Recipe) -> tuple[Range, Basis] | None:
    """Return the seconds of all trials, one after the other, and the basis of that estimate; None if nothing is known.

    It includes neither the cost of a composition's methods nor trials beyond the recipe's learning rates.
    """
    measured = len(recipe.compositions) * recipe.seeds
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
