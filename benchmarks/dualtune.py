"""Calls of tools by a bank of adapters and by one: `python benchmarks/dualtune.py`, after `ratchet use tools && ratchet run pretrain`.

Sides, all on the base and the examples of this workspace (params/compare/dualtune.yaml):
  bank   an adapter that names the tool, one for each tool that writes its calls, one for answers; the likeliest choice is taken
  voted  the same adapters, with ten choices at temperature 1 and a vote
  own    the same adapters, each turn under that of the right tool
  one    a single adapter, trained on calls and answers of all tools for as many tokens as the bank in all
  one_constrained   the same adapter under constrained decoding: it writes a call, and one that the schemas allow
  base_constrained  constrained decoding alone: the base without an adapter
Printed for each side and seed, of held-out turns that call a tool: the shares of calls that are exactly right, of the right tool, as its schema
allows, and that give what the right call gives. Then the differences to
`one` with their 95 % intervals over seeds (Student's t). Results are kept in .ratchet/dualtune, and a second call resumes.
`python docs/ledger.py dualtune` takes the figures to the ledger.
"""

import argparse
import hashlib
import json
import shutil
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

import kept as files
import polars as pl
import yaml
from pydantic import Field
from quiet import Quiet
from side_by_side import of_seeds, run_main

from flows.experiments import results_table
from tasks import configuration
from tasks.core import statistics
from tasks.core.answers.tool_choice import SELECT
from tasks.core.compute import Compute
from tasks.core.config import Config
from tasks.core.records import Example, FaultPair
from tasks.io import config_file, provenance, tables
from tasks.io.weights import checkpoints
from tasks.stages.evaluate import stage as evaluate_stage
from tasks.stages.tune import stage as tune_stage

ROOT = Path(__file__).resolve().parents[1]
KEPT = Path(".ratchet/dualtune")
BASE, INGESTED, EXAMPLES = Path("models/pretrained"), Path("data/ingested"), Path("data/rounds/r0/examples.parquet")
ONE = "one"
MEASURES = {
    "exact": "tool_call accuracy",
    "name": "tool_call name accuracy",
    "valid": "tool_call schema validity",
    "result": "tool_call result accuracy",
}

Rows = dict[str, Any]


class Side(Config):
    """What is measured, and how."""

    model: Literal["bank", "one", "base"]
    changes: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """Changes of the profile's sections."""


class Recipe(Config):
    """Contents of params/compare/dualtune.yaml."""

    benchmark: str
    profile: Path
    seeds: int
    sides: dict[str, Side]


def main() -> None:
    """Train and measure every side with every seed, print the table and keep the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("seeds", type=int, nargs="*", help="instead of the recipe's: 0, 1, …")
    parser.add_argument("--profile", type=Path, help="instead of the recipe's")
    parser.add_argument("--sides", nargs="*", help="some of the recipe's")
    options = parser.parse_args()
    recipe = config_file.read(ROOT / "params/compare/dualtune.yaml", Recipe)
    recipe = recipe.model_copy(update={"profile": options.profile} if options.profile else {})
    if missing := [str(path) for path in (BASE, INGESTED, EXAMPLES) if not path.exists()]:
        sys.exit(f"{', '.join(missing)}: not there yet. `ratchet use tools && ratchet run pretrain` makes them.")
    bench = Bench(recipe)
    seeds, sides = options.seeds or list(range(recipe.seeds)), options.sides or list(recipe.sides)
    compute = Compute.model_validate(bench.profile.get("compute", {}))
    rows = [row for some in of_seeds(partial(bench.of_seed, sides), seeds, compute) for row in some]
    show(rows)
    print(f"Figures: {results_table.save_figures('dualtune', rows)}")


class Bench:
    """The trainings of a recipe, each in a folder of its own, below a folder named by a hash of settings, base and examples."""

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        self.profile: dict[str, Any] = yaml.safe_load((ROOT / recipe.profile).read_text(encoding="utf-8"))
        sides = {name: side.model_dump() for name, side in recipe.sides.items()}
        basis = [self.profile, sides, checkpoints.weights_digest(BASE), provenance.digest(EXAMPLES)]
        self.folder = KEPT / hashlib.sha256(json.dumps(basis, sort_keys=True).encode()).hexdigest()[:8]

    def of_seed(self, sides: Sequence[str], seed: int) -> list[Rows]:
        """Return the figures of all sides with a seed."""
        return [{"composition": side, "seed": seed} | self.measured(side, seed) for side in sides]

    def measured(self, side: str, seed: int) -> Rows:
        """Return the figures of a side, from its file or from running it."""
        return files.result(self.folder / f"{side}-{seed}.json", lambda: self._measure(side, seed), _in_words)

    def _measure(self, side: str, seed: int) -> Rows:
        of_side = self.recipe.sides[side]
        model = {"bank": self._bank, "one": self._one, "base": lambda _: BASE}[of_side.model](seed)
        folder = self.folder / f"{side}-{seed}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "nothing.jsonl").touch()
        documents = INGESTED / "test_documents.parquet"
        inputs = {"base": BASE, "model": model, "test": INGESTED / "test.parquet", "documents": documents}
        outputs = {"metrics": folder / "metrics.json", "results": folder / "results.parquet"}
        evaluate_stage.main(
            inputs | {"decisions": folder / "nothing.jsonl"},
            outputs,
            self._config("evaluate", seed, of_side.changes),
            Quiet(folder),
        )
        metrics = json.loads(outputs["metrics"].read_text(encoding="utf-8"))
        course = {"tokens": 0, "trainable": 0}
        if of_side.model != "base":
            course = json.loads((model / "training.json").read_text(encoding="utf-8"))
        figures = {name: metrics["answers"][measure]["all"]["value"] for name, measure in MEASURES.items()}
        return figures | {"tokens": course["tokens"], "trainable": course["trainable"]}

    def _bank(self, seed: int) -> Path:
        return self._tuned(f"bank-{seed}", seed, EXAMPLES, {})

    def _one(self, seed: int) -> Path:
        """Train one adapter on the data of the tools' and answers' adapters together, for as many tokens as the whole bank."""
        bank = json.loads((self._bank(seed) / "training.json").read_text(encoding="utf-8"))
        examples = self.folder / "calls.parquet"
        tables.sink_query(examples, tables.scan([EXAMPLES], Example).filter(pl.col("task") != SELECT), Example)
        changes = merged(self.recipe.sides[ONE].changes, {"tune": {"max_tokens": bank["tokens"], "epochs": 1000}})
        return self._tuned(f"one-adapter-{seed}", seed, examples, changes)

    def _tuned(self, name: str, seed: int, examples: Path, changes: Mapping[str, Any]) -> Path:
        folder = self.folder / name
        if not folder.is_dir():
            half = self.folder / f"{name}-half"
            shutil.rmtree(half, ignore_errors=True)
            faults = self.folder / "faults.parquet"
            tables.write(faults, [], FaultPair)
            valid, documents = INGESTED / "valid.parquet", INGESTED / "train_documents.parquet"
            inputs = {"base": BASE, "examples": examples, "faults": faults, "valid": valid, "documents": documents}
            tune_stage.main(
                inputs, {"model": half}, self._config("tune", seed, changes), Quiet(self.folder / f"run-{name}")
            )
            half.rename(folder)
        return folder

    def _config(self, stage: str, seed: int, changes: Mapping[str, Any]) -> Any:
        """Return the part of the profile's settings that a stage reads, with changes."""
        values = merged(merged(self.profile, {"tune": {"seed": seed}}), changes)
        file = self.folder / "params.yaml"
        self.folder.mkdir(parents=True, exist_ok=True)
        file.write_text(yaml.safe_dump(values, sort_keys=False), encoding="utf-8")
        return configuration.for_stage(stage, configuration.load(file))


def merged(values: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return nested settings with changes."""
    return {**values} | {
        name: merged(values[name], change) if isinstance(change, Mapping) and name in values else change
        for name, change in changes.items()
    }


def _in_words(row: Rows) -> str:
    return ", ".join(f"{name} {row[name]:.3f}" for name in MEASURES) + f" after {row['tokens']:,} tokens"


def show(rows: list[Rows]) -> None:
    """Print the figures of each side, and its differences to `one`."""
    by_side: defaultdict[str, list[Rows]] = defaultdict(list)
    for row in rows:
        by_side[row["composition"]].append(row)
    for side, of_side in by_side.items():
        print(f"\n{side} ({of_side[0]['trainable']:,} trained numbers)")
        for name, measure in MEASURES.items():
            values = [row[name] for row in of_side]
            print(f"  {measure:<26} {sum(values) / len(values):.4f} ({', '.join(f'{value:.4f}' for value in values)})")
            if side != ONE and len(values) > 1 and ONE in by_side:
                mean = statistics.over_seeds(
                    [row[name] - other[name] for row, other in zip(of_side, by_side[ONE], strict=True)]
                )
                print(f"    less {ONE}: {mean.value:+.4f} [{mean.low:+.4f}, {mean.high:+.4f}]")


if __name__ == "__main__":
    run_main(__file__)
