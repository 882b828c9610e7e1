"""Gain of turns that answer failures: `python benchmarks/loop.py`, after `ratchet use reasoning && ratchet run fetch`.

All arms start from one first round (`r0`) and train the same base anew in every round, on equally many tokens and steps; they differ in
the tasks that a turn adds, as many in each:
  failures  in proportion to what the model of the round before failed, answered by their generator
  uniform   evenly over all kinds: the control
  own       as `failures`, but with the model's own answers that the verifier takes, and without any other
  longer    r0's examples alone, on twice the tokens
The metric was fixed beforehand (docs/claims/failures.json): the share of held-out tasks whose greedy answer the verifier takes. r0 is
itself the control of the same examples for equally many steps.
Printed: accuracy of each arm and round with its differences to the round before, to `uniform`, to `longer` and to r0, with 95 %
intervals over items (bootstrap, items of all seeds) and over seeds (Student's t). Settings: params/compare/loop.yaml.
Results are kept in .ratchet/loop, and a second call resumes. `python docs/ledger.py loop` takes the figures to the ledger.
"""

import argparse
import hashlib
import json
import shutil
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any

import kept as files
import yaml
from quiet import Quiet

from flows.experiments import results_table
from tasks import configuration
from tasks.configuration import PipelineConfig
from tasks.core import statistics
from tasks.core.config import Config
from tasks.core.records import Example, FaultPair
from tasks.core.stage import Turn
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
APART = 1_000_000
"""Between the seeds of the data: reasoning-gym draws item n of seed s by s + n."""

Rows = dict[str, Any]


class Recipe(Config):
    """Contents of params/compare/loop.yaml."""

    benchmark: str
    profile: Path
    seeds: int
    rounds: int
    longer: int
    tests: int
    arms: dict[str, dict[str, Any]]
    """Name → changes of the profile's sections."""


def main() -> None:
    """Run every arm with every seed, print the table and keep the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("seeds", type=int, nargs="*", help="instead of the recipe's: 0, 1, …")
    parser.add_argument("--profile", type=Path, help="instead of the recipe's")
    parser.add_argument("--base", type=Path, default=Path("models/base"), help="the folder of the base model")
    parser.add_argument("--rounds", type=int, help="instead of the recipe's")
    parser.add_argument("--arms", nargs="*", help="some of the recipe's")
    options = parser.parse_args()
    recipe = config_file.read(ROOT / "params/compare/loop.yaml", Recipe)
    recipe = recipe.model_copy(
        update={name: value for name in ("profile", "rounds") if (value := getattr(options, name)) is not None}
    )
    bench = Bench(recipe, options.base)
    seeds, arms = options.seeds or list(range(recipe.seeds)), options.arms or [*recipe.arms, "longer"]
    results: dict[str, list[Rows]] = defaultdict(list)
    for seed in seeds:
        for name, row in bench.run(seed, arms):
            results[name].append(row)
    table(results)
    figures = [
        {"composition": name, "seed": seed, "accuracy": accuracy(row), "kinds": by_kind(row), "examples": row["examples"]}
        for name, rows in results.items()
        for seed, row in zip(seeds, rows, strict=True)
    ]
    print(f"Figures: {results_table.save_figures('loop', figures)}")


class Bench:
    """The trainings of a recipe, each in a folder that its settings name."""

    def __init__(self, recipe: Recipe, base: Path) -> None:
        """Read the profile; `base` is the folder of the base model."""
        checkpoints.check_folder(base)
        self.recipe, self.base = recipe, base
        self.profile: dict[str, Any] = yaml.safe_load((ROOT / recipe.profile).read_text(encoding="utf-8"))
        basis = json.dumps([self.profile, recipe.tests, recipe.longer, checkpoints.weights_digest(base)], sort_keys=True)
        self.folder = KEPT / hashlib.sha256(basis.encode()).hexdigest()[:8]

    def run(self, seed: int, arms: Sequence[str]) -> list[tuple[str, Rows]]:
        """Return the result of each arm and round of a seed by its name (`r0`, `failures r1`, …, `longer`)."""
        first = self.folder / f"{seed}" / "r0"
        self.ingest(seed)
        results = [("r0", self.measured(seed, first, {}))]
        for arm in arms:
            if arm == "longer":
                changes = {"tune": {"max_tokens": self.recipe.longer * self.profile["tune"]["max_tokens"]}}
                folder = self.folder / f"{seed}" / "longer"
                folder.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(first / "examples.parquet", folder / "examples.parquet")
                results.append(("longer", self.measured(seed, folder, changes)))
                continue
            before = first
            for number in range(1, self.recipe.rounds):
                folder = self.folder / f"{seed}" / f"{arm}-r{number}"
                self.turn(seed, before, folder, self.recipe.arms[arm])
                results.append((f"{arm} r{number}", self.measured(seed, folder, {})))
                before = folder
        return results

    def config(self, seed: int, changes: Mapping[str, Any]) -> PipelineConfig:
        """Return the settings of a seed: the profile's with its own data and order."""
        seeded = {"ingest": {"seed": APART * seed}, **{name: {"seed": seed} for name in ("tune", "diagnose", "refine")}}
        turns = {"r1": Turn(prev="r0").model_dump()}
        values = merged(merged(self.profile, seeded), changes) | {"rounds": {"r0": {}, "r1": {}}, "turns": turns}
        file = self.folder / f"{seed}" / "params.yaml"
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
        inputs = {"embedder": folder / "raw", "raw": folder / "raw"}
        outputs = {"ingested": folder / "ingested", "examples": folder / "r0/half.parquet"}
        ingest_stage.main(inputs, outputs, self.stage_config("ingest", seed, {}), Quiet(folder))
        outputs["examples"].rename(folder / "r0/examples.parquet")

    def turn(self, seed: int, before: Path, folder: Path, changes: Mapping[str, Any]) -> None:
        """Diagnose the model of a round, and write the examples of the next one."""
        if (folder / "examples.parquet").is_file():
            return
        run = Quiet(folder)
        ingested, decisions = before.parent / "ingested", before.parent / "decisions.jsonl"
        decisions.touch()
        inputs = {
            "base": self.base, "tuned": before / "model", "examples": before / "examples.parquet", "ingested": ingested,
            "embedder": ingested, "decisions": decisions,
        }  # fmt: skip
        diagnosed = {name: folder / f"{name}.parquet" for name in ("signals", "probes")}
        diagnosed["diagnosis"] = folder / "diagnosis.json"
        diagnose_stage.main(inputs, diagnosed, self.stage_config("diagnose", seed, changes), run)
        refined = {"examples": folder / "half.parquet", "lineage": folder / "lineage.parquet", "refinement": folder / "refinement.json"}
        refine_stage.main(inputs | diagnosed, refined, self.stage_config("refine", seed, changes), run)
        refined["examples"].rename(folder / "examples.parquet")

    def measured(self, seed: int, folder: Path, changes: Mapping[str, Any]) -> Rows:
        """Return the result of training on a round's examples, from its file or from running it."""
        return files.result(
            folder / "result.json", lambda: self.trial(seed, folder, changes), lambda row: f"{folder}: {accuracy(row):.3f}"
        )

    def trial(self, seed: int, folder: Path, changes: Mapping[str, Any]) -> Rows:
        """Train on a round's examples and answer the held-out tasks."""
        ingested = folder.parent / "ingested"
        tables.write(folder / "faults.parquet", [], FaultPair)
        inputs = {"base": self.base, "valid": ingested / "valid.parquet"}
        inputs |= {name: folder / f"{name}.parquet" for name in ("examples", "faults")}
        config = self.stage_config("tune", seed, changes)
        if not (folder / "model").is_dir():
            shutil.rmtree(folder / "half", ignore_errors=True)
            tune_stage.main(inputs, {"model": folder / "half"}, config, Quiet(folder))
            (folder / "half").rename(folder / "model")
        tests = chosen(tables.read(ingested / "test.parquet", Example), self.recipe.tests)
        return {
            "items": answers(folder / "model", self.base, tests, self.config(seed, {})),
            "examples": dict(Counter(example.task for example in tables.read(inputs["examples"], Example))),
        }


def merged(values: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return nested settings with changes."""
    parts = {
        name: merged(values[name], change) if isinstance(change, Mapping) and isinstance(values.get(name), Mapping) else change
        for name, change in changes.items()
    }
    return {**values, **parts}


def chosen(tests: Sequence[Example], each: int) -> list[Example]:
    """Return so many tasks of each kind, those of the lowest ids."""
    kinds: dict[str, list[Example]] = defaultdict(list)
    for example in sorted(tests, key=lambda example: example.id):
        kinds[example.task].append(example)
    return [example for kind in sorted(kinds) for example in kinds[kind][:each]]


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
    """Return the share of each kind."""
    kinds: dict[str, list[float]] = defaultdict(list)
    for item in row["items"]:
        kinds[item["kind"]].append(item["passed"])
    return {kind: round(fmean(passed), 4) for kind, passed in kinds.items()}


def table(results: Mapping[str, Sequence[Rows]]) -> None:
    """Print for each arm and round its accuracy, its differences, and accuracy and examples by kind."""
    for name, rows in results.items():
        print(f"\n{name}: accuracy {fmean(map(accuracy, rows)):.4f} ({', '.join(f'{accuracy(row):.4f}' for row in rows)})")
        for other in compared_with(name):
            if other in results:
                print(f"  less {other}: {change(rows, results[other])}")
        for kind in by_kind(rows[0]):
            shares, counts = fmean(by_kind(row)[kind] for row in rows), fmean(row["examples"].get(kind, 0) for row in rows)
            print(f"  {kind:<28} {shares:.3f} with {counts:.0f} examples")


def compared_with(name: str) -> list[str]:
    """Return what an arm's round is compared with: the round before it, the control of the same round, `longer`, r0."""
    arm, _, number = name.partition(" r")
    if not number:
        return ["r0"] if name != "r0" else []
    before = f"{arm} r{int(number) - 1}" if number != "1" else "r0"
    controls = [f"uniform r{number}", f"own r{number}"] if arm == "failures" else []
    return list(dict.fromkeys([before, *controls, "longer", "r0"]))


def change(rows: Sequence[Rows], others: Sequence[Rows]) -> str:
    """Format the difference of accuracies with its intervals over the items of all seeds and over seeds."""
    pairs = [
        (item["item"], item["passed"] - other["passed"])
        for row, first in zip(rows, others, strict=True)
        for item, other in zip(row["items"], first["items"], strict=True)
    ]
    items = statistics.mean([gain for _, gain in pairs], [name for name, _ in pairs])
    by_seed = [accuracy(row) - accuracy(first) for row, first in zip(rows, others, strict=True)]
    seeds = statistics.over_seeds(by_seed)
    return (
        f"{items.value:+.4f} over items [{items.low:+.4f}, {items.high:+.4f}], over seeds [{seeds.low:+.4f}, {seeds.high:+.4f}] "
        f"({', '.join(f'{gain:+.4f}' for gain in by_seed)})"
    )


if __name__ == "__main__":
    main()
