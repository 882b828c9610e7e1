"""Gain of turns that answer failures: `python benchmarks/loop.py`, after `ratchet use reasoning && ratchet run fetch`.

The base answers too. All arms start from one first round (`r0`) and train the same base anew in every round, r0 included, on equally many tokens
(`tune.max_tokens` of the profile): what a round gains comes from its examples, not from longer training. Arms differ in the tasks that a turn adds:
  learnable most of the kinds that the model of the round before fails some of and solves some of, answered by their generator
  failures  as many, in proportion to what it failed
  uniform   as many, evenly over all kinds: the control
  own       as `learnable`, but with the model's own answers that the verifier takes, and without any other
The metric was fixed beforehand (docs/claims/failures.json): the share of held-out tasks whose greedy answer the verifier takes.
Printed: accuracy of each arm and round with its differences to the round before, to the other arms in that round, and to r0, with 95 %
intervals over items (bootstrap, items of all seeds) and over seeds (Student's t). Settings: params/compare/loop.yaml.
Results are kept in .ratchet/loop, and a second call resumes. `python docs/ledger.py loop` takes the figures to the ledger, beside those of
seeds that ran elsewhere; figures of another `--name` are kept apart, as claims on seeds of their own need. With
`RATCHET_RAY` seeds run side by side on that cluster.
"""

import argparse
import hashlib
import json
import os
import shutil
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any

import kept as files
import yaml
from quiet import Quiet
from side_by_side import of_seeds, run_main

from flows.experiments import results_table
from tasks import configuration
from tasks.configuration import PipelineConfig
from tasks.core import statistics
from tasks.core.compute import Compute
from tasks.core.config import Config
from tasks.core.records import Example, FaultPair
from tasks.engine import device
from tasks.engine.inference import generation
from tasks.io import config_file, tables, verifiers
from tasks.io.weights import checkpoints
from tasks.stages.diagnose import stage as diagnose_stage
from tasks.stages.ingest import stage as ingest_stage
from tasks.stages.refine import stage as refine_stage
from tasks.stages.tune import stage as tune_stage

ROOT = Path(__file__).resolve().parents[1]
KEPT = Path(".ratchet/loop")
NONE: Mapping[str, Any] = {}
APART = 1_000_000
"""Distance between seeds of the data: reasoning-gym draws item n of seed s with s + n."""

Rows = dict[str, Any]


class Recipe(Config):
    """Contents of params/compare/loop.yaml."""

    benchmark: str
    profile: Path
    changes: dict[str, Any]
    """Changes of the profile's sections, for all arms."""
    seeds: list[int]
    rounds: int
    growth: float
    """What a turn makes of the number of examples."""
    arms: dict[str, dict[str, Any]]
    """Name → changes of the profile's sections."""


def main() -> None:
    """Run every arm with every seed, print the table and keep the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("seeds", type=int, nargs="*", help="instead of the recipe's; 0 has the profile's own data")
    parser.add_argument("--profile", type=Path, help="instead of the recipe's")
    parser.add_argument("--base", type=Path, default=Path("models/base"), help="the folder of the base model")
    parser.add_argument("--rounds", type=int, help="instead of the recipe's")
    parser.add_argument("--arms", nargs="*", help="some of the recipe's")
    parser.add_argument("--name", default="loop", help="the comparison that the figures are kept as, for the ledger")
    options = parser.parse_args()
    recipe = config_file.read(ROOT / "params/compare/loop.yaml", Recipe)
    changes = {name: value for name in ("profile", "rounds") if (value := getattr(options, name)) is not None}
    recipe = recipe.model_copy(update=changes)
    seeds, arms = options.seeds or recipe.seeds, options.arms or list(recipe.arms)
    if unknown := set(arms) - recipe.arms.keys():
        parser.error(f"--arms {', '.join(sorted(unknown))}: there are {', '.join(recipe.arms)}")
    bench = Bench(recipe, options.base)
    results: dict[str, list[Rows]] = defaultdict(list)
    for rows in of_seeds(partial(bench.results, arms), seeds, bench.compute):
        for name, row in rows.items():
            results[name].append(row)
    print_table(results)
    rows = figures(results, seeds, {name: bench.settings(name) for name in results})
    print(f"Figures: {results_table.save_figures(options.name, rows)}")


def figures(results: Mapping[str, Sequence[Rows]], seeds: Sequence[int], settings: Mapping[str, str]) -> list[Rows]:
    """Return a row for each training; `settings` holds, by name, everything that it depends on besides its seed."""
    facts = ("examples", "tokens", "steps")
    return [
        {
            "composition": name,
            "seed": seed,
            "settings": settings[name],
            "accuracy": round(accuracy(row), 6),
            "items": len(row["items"]),
            "kinds": by_kind(row),
        }
        | {fact: row[fact] for fact in facts}
        for name, rows in results.items()
        for seed, row in zip(seeds, rows, strict=True)
    ]


class Bench:
    """The trainings of a recipe, each in a folder of its own, below a folder named by a hash of the settings."""

    def __init__(self, recipe: Recipe, base: Path) -> None:
        """Read the profile; `base` is the folder of the base model."""
        checkpoints.check_folder(base)
        self.recipe, self.base = recipe, base
        profile: dict[str, Any] = yaml.safe_load((ROOT / recipe.profile).read_text(encoding="utf-8"))
        self.profile = merged(profile, recipe.changes)
        of_machine = {"compute"}
        basis = {name: section for name, section in self.profile.items() if name not in of_machine}
        self.folder = KEPT / digest([basis, recipe.growth, checkpoints.weights_digest(base)])

    def settings(self, name: str) -> str:
        """Return a digest of everything that a named result depends on: the shared settings, and the changes of its arm."""
        changes = self.recipe.arms.get(name.partition(" r")[0])
        return f"{self.folder.name}-{digest(changes)}" if changes else self.folder.name

    def place(self, seed: int, arm: str, number: int) -> Path:
        """Return the folder of an arm's round."""
        changes = self.recipe.arms.get(arm)
        name = f"{arm}-{digest(changes)}" if changes else arm
        return self.folder / f"{seed}" / (f"{name}-r{number}" if number else "r0")

    @property
    def compute(self) -> Compute:
        """What each training computes with."""
        return Compute.model_validate(self.profile.get("compute", {}))

    def results(self, arms: Sequence[str], seed: int) -> dict[str, Rows]:
        """Return the results of the base, and of each arm and round of a seed, by their names: `r0`, `failures r1`, …."""
        self.ingest(seed)
        results = {"base": self.untrained(seed), "r0": self.measured(seed, self.place(seed, "", 0))}
        for number in range(1, self.recipe.rounds):
            for arm in arms:
                before, folder = (self.place(seed, arm, n) for n in (number - 1, number))
                self.turn(seed, before, folder, self.recipe.arms[arm])
                results[f"{arm} r{number}"] = self.measured(seed, folder)
        return results

    def config(self, seed: int, changes: Mapping[str, Any]) -> PipelineConfig:
        """Return the settings of a seed: the profile's with its own data and order."""
        seeded = {"ingest": {"seed": APART * seed}, **{name: {"seed": seed} for name in ("tune", "diagnose", "refine")}}
        values = merged(merged(self.profile, seeded), changes)
        file = self.folder / f"{seed}" / f"params-{digest(changes)}.yaml"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(yaml.safe_dump(values, sort_keys=False), encoding="utf-8")
        return configuration.load(file)

    def stage_config(self, stage: str, seed: int, changes: Mapping[str, Any]) -> Any:
        """Return the settings that a stage declares."""
        return configuration.for_stage(stage, self.config(seed, changes))

    def ingest(self, seed: int) -> None:
        """Make the first round and the held-out tasks of a seed."""
        folder = self.folder / f"{seed}"
        if (folder / "r0/examples.parquet").is_file():
            return
        (folder / "raw").mkdir(parents=True, exist_ok=True)
        inputs = {"embedder": folder / "raw", "raw": folder / "raw", "decisions": Path(os.devnull)}
        outputs = {"ingested": folder / "ingested", "examples": folder / "r0/half.parquet"}
        ingest_stage.main(inputs, outputs, self.stage_config("ingest", seed, {}), Quiet(folder))
        outputs["examples"].rename(folder / "r0/examples.parquet")

    def turn(self, seed: int, before: Path, folder: Path, changes: Mapping[str, Any]) -> None:
        """Diagnose the model of a round, and write the examples of the next one."""
        if (folder / "examples.parquet").is_file():
            return
        run, home = Quiet(folder), folder.parent
        (home / "decisions.jsonl").touch()
        added = round((self.recipe.growth - 1) * tables.count(before / "examples.parquet", Example))
        changes = merged({"methods": {"failures": {"add": added}}}, changes)
        inputs = {
            "base": self.base, "tuned": before / "model", "examples": before / "examples.parquet",
            "ingested": home / "ingested", "embedder": home / "ingested", "decisions": home / "decisions.jsonl",
        }  # fmt: skip
        diagnosed = {name: folder / f"{name}.parquet" for name in ("signals", "probes")}
        diagnosed["diagnosis"] = folder / "diagnosis.json"
        diagnose_stage.main(inputs, diagnosed, self.stage_config("diagnose", seed, changes), run)
        refined = {"examples": folder / "half.parquet", "lineage": folder / "lineage.parquet"}
        refined["refinement"] = folder / "refinement.json"
        refine_stage.main(inputs | diagnosed, refined, self.stage_config("refine", seed, changes), run)
        refined["examples"].rename(folder / "examples.parquet")

    def measured(self, seed: int, folder: Path, changes: Mapping[str, Any] = NONE) -> Rows:
        """Return the result of training on a round's examples, from its file or from running it."""
        return files.result(
            folder / "result.json",
            lambda: self.trial(seed, folder, changes),
            lambda row: f"{folder}: {accuracy(row):.3f}",
        )

    def untrained(self, seed: int) -> Rows:
        """Return the answers of the base to the held-out tasks of a seed, from their file or from asking it."""
        folder = self.folder / f"{seed}"
        return files.result(
            folder / "base.json",
            lambda: {"items": self.answered(seed, self.base), "examples": {}, "tokens": 0, "steps": 0},
            lambda row: f"{folder}, base: {accuracy(row):.3f}",
        )

    def answered(self, seed: int, model: Path) -> list[Rows]:
        """Return a model's answers to the held-out tasks of a seed."""
        tests = tables.read(self.folder / f"{seed}/ingested/test.parquet", Example)
        return answers(model, self.base, tests, self.config(seed, {}))

    def trial(self, seed: int, folder: Path, changes: Mapping[str, Any]) -> Rows:
        """Train on a round's examples, with changes of the profile, and answer the held-out tasks."""
        ingested = folder.parent / "ingested"
        if not (folder / "faults.parquet").is_file():
            tables.write(folder / "faults.parquet", [], FaultPair)
        inputs = {
            "base": self.base,
            "valid": ingested / "valid.parquet",
            "documents": ingested / "train_documents.parquet",
        }
        inputs |= {name: folder / f"{name}.parquet" for name in ("examples", "faults")}
        if not (folder / "model").is_dir():
            shutil.rmtree(folder / "half", ignore_errors=True)
            tune_stage.main(inputs, {"model": folder / "half"}, self.stage_config("tune", seed, changes), Quiet(folder))
            (folder / "half").rename(folder / "model")
        course = json.loads((folder / "model/training.json").read_text(encoding="utf-8"))
        return {
            "items": self.answered(seed, folder / "model"),
            "examples": dict(Counter(example.task for example in tables.read(inputs["examples"], Example))),
            "tokens": course["tokens"],
            "steps": len(course["loss"]),
        }


def digest(values: Any) -> str:
    """Return eight digits that follow from the values."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:8]


def merged(values: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return nested settings with changes."""
    return {**values} | {
        name: merged(values[name], change) if isinstance(change, Mapping) and name in values else change
        for name, change in changes.items()
    }


def answers(model: Path, base: Path, tests: Sequence[Example], config: Any) -> list[Rows]:
    """Return whether the verifier takes the greedy answer to each task."""
    device.use(config.compute)
    loaded, tokenizer = checkpoints.load(model, base, **device.placement(config.compute))
    write = partial(generation.write, loaded.eval(), tokenizer=tokenizer)
    longest, batch_size = config.evaluate.max_new_tokens, config.evaluate.batch_size
    texts = write([example.prompt for example in tests], max_new_tokens=longest, batch_size=batch_size)
    return [
        {"item": example.id, "kind": example.task, "passed": verifiers.grade(example.tests, text).score}
        for example, text in zip(tests, texts, strict=True)
        if example.tests
    ]


def accuracy(row: Rows) -> float:
    """Return the share of held-out tasks that are solved."""
    return fmean(item["passed"] for item in row["items"])


def by_kind(row: Rows) -> dict[str, float]:
    """Return the share of each data set."""
    kinds: dict[str, list[float]] = defaultdict(list)
    for item in row["items"]:
        kinds[item["kind"]].append(item["passed"])
    return {kind: round(fmean(passed), 4) for kind, passed in sorted(kinds.items())}


def print_table(results: Mapping[str, Sequence[Rows]]) -> None:
    """Print for each arm and round its accuracy, its differences, and accuracy and examples by data set."""
    for name, rows in results.items():
        print(
            f"\n{name}: accuracy {fmean(map(accuracy, rows)):.4f} ({', '.join(f'{accuracy(row):.4f}' for row in rows)})"
        )
        for other in compared_with(name, results):
            print(f"  less {other}: {change(rows, results[other])}")
        for kind in by_kind(rows[0]):
            share = fmean(by_kind(row)[kind] for row in rows)
            print(f"  {kind:<24} {share:.3f} with {fmean(row['examples'].get(kind, 0) for row in rows):.0f} examples")


def compared_with(name: str, names: Iterable[str]) -> list[str]:
    """Return the results with which an arm's round is compared: the previous round, the other arms in that round, and r0; for r0 the base."""
    arm, _, number = name.partition(" r")
    if not number:
        return ["base"] if name == "r0" else []
    before = f"{arm} r{int(number) - 1}" if number != "1" else "r0"
    others = [other for other in names if other != name and other.endswith(f" r{number}")]
    return list(dict.fromkeys([before, *others, "r0"]))


def change(rows: Sequence[Rows], others: Sequence[Rows]) -> str:
    """Format the difference of accuracies with its intervals over the items of all seeds and over seeds."""
    pairs = [
        (item["item"], item["passed"] - other["passed"])
        for row, first in zip(rows, others, strict=True)
        for item, other in zip(row["items"], first["items"], strict=True)
    ]
    items = statistics.mean([gain for _, gain in pairs], [name for name, _ in pairs])
    by_seed = [accuracy(row) - accuracy(first) for row, first in zip(rows, others, strict=True)]
    over = ""
    if len(by_seed) > 1:
        seeds = statistics.over_seeds(by_seed)
        each = ", ".join(f"{gain:+.4f}" for gain in by_seed)
        over = f", over seeds [{seeds.low:+.4f}, {seeds.high:+.4f}] ({each})"
    return f"{items.value:+.4f} over items [{items.low:+.4f}, {items.high:+.4f}]{over}"


if __name__ == "__main__":
    run_main(__file__)
