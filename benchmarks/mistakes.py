"""FAIT on a model's own failures: `python benchmarks/mistakes.py`, after `ratchet use reasoning && ratchet run fetch`.

A first round trains as the profile says (`r0`). It is then asked the tasks that it trained on and fresh ones, evenly over all kinds.
Its answers that the verifier refuses are the wrong sides of pairs, and the generator's answers the right ones. Every arm goes on from
the adapter of `r0`, on these tasks, for equally many trained tokens:
  plain      the right answers, all tokens alike
  constant   FAIT: tokens that differ from the wrong answer weigh twice as much
  margin     FAIT's default: they weigh more as long as the model prefers the wrong answer
  random     as `constant`, with the marks of each answer at random places of it
  dpo        DPO on the pairs
  rejection  the model's own answers that the verifier takes, and no other (rejection sampling)
The metric was fixed beforehand (docs/claims/fait.json): the share of held-out tasks whose greedy answer the verifier takes.
Printed: accuracy of each arm with its differences to `r0` and to the other arms, with 95 % intervals over items (bootstrap, items of all
seeds) and over seeds (Student's t). Settings: params/compare/mistakes.yaml. Trials are kept in .ratchet/loop, and a second call resumes.
"""

import argparse
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from loop import ROOT, Bench, Recipe, Rows, accuracy, change, figures, merged
from quiet import Quiet
from side_by_side import of_seeds, run_main

from flows.experiments import results_table
from tasks.core.records import Example, FaultPair
from tasks.engine.inference import writer
from tasks.io import config_file, pinned, tables, verifiers
from tasks.stages.faults import generate
from tasks.stages.faults import stage as faults
from tasks.stages.faults.findings import Findings

RECIPE = Path("params/compare/mistakes.yaml")
TOKENS = 20_000
"""The settings of each arm. None replays general text, since DPO learns from answers and text has none."""
REJECTION = "rejection"
"""The arm that trains on the model's own answers."""


def main() -> None:
    """Run every arm with every seed, print the table and keep the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("seeds", type=int, nargs="*", help="instead of the recipe's")
    parser.add_argument("--profile", type=Path, help="instead of the recipe's")
    parser.add_argument("--base", type=Path, default=Path("models/base"), help="the folder of the base model")
    parser.add_argument("--arms", nargs="*", help="some of the recipe's")
    options = parser.parse_args()
    recipe = config_file.read(ROOT / RECIPE, Recipe)
    if options.profile:
        recipe = recipe.model_copy(update={"profile": options.profile})
    seeds, arms = options.seeds or recipe.seeds, options.arms or list(recipe.arms)
    bench = Bench(recipe, options.base)
    results: dict[str, list[Rows]] = defaultdict(list)
    for rows in of_seeds(partial(of_seed, bench, arms), seeds, bench.compute):
        for name, row in rows.items():
            results[name].append(row)
    for name, rows_of_seeds in results.items():
        print(f"\n{name}: accuracy {', '.join(f'{accuracy(row):.4f}' for row in rows_of_seeds)}")
        for other in results:
            if other != name:
                print(f"  less {other}: {change(rows_of_seeds, results[other])}")
    kept = figures(results, seeds, {name: bench.settings(name) for name in results})
    print(f"Figures: {results_table.save_figures('mistakes', kept)}")


def of_seed(bench: Bench, arms: Sequence[str], seed: int) -> dict[str, Rows]:
    """Return the results of the first round and of each arm of a seed, by name."""
    first, row = prepare(bench, seed)
    return {"r0": row} | {arm: trial(bench, seed, first, arm) for arm in arms}


def prepare(bench: Bench, seed: int) -> tuple[Path, Rows]:
    """Return the folder of a seed's first round, and its result; `asked` beside it has what the arms train on."""
    bench.ingest(seed)
    first = bench.place(seed, "", 0)
    rows = bench.measured(seed, first)
    asked = first.parent / "asked"
    bench.turn(seed, first, asked, {"methods": {"failures": {"where": "uniform"}}})
    if not (asked / "own.parquet").is_file():
        find_pairs(bench, seed, first, asked)
    return first, rows


def find_pairs(bench: Bench, seed: int, first: Path, asked: Path) -> None:
    """Write the pairs of the first round's wrong answers, and the examples that have its right ones (`own.parquet`)."""
    config, run = bench.stage_config("faults", seed, {}), Quiet(asked)
    folder = run.work / "findings"
    folder.mkdir(parents=True, exist_ok=True)
    findings = Findings(folder)
    faults.find_pairs(asked / "examples.parquet", first / "model", config, run, findings, bench.base)
    tables.sink(asked / "faults.parquet", findings.pairs, FaultPair)
    (source,) = config.faults.sources
    write = writer.of_model(first / "model", source, config.compute, run, bench.base)
    examples = tables.read(asked / "examples.parquet", Example)
    attempts = generate.attempts(source, examples, config.faults.seed, write)
    tables.write(asked / "own.parquet", own_answers(examples, attempts), Example)


def own_answers(examples: Sequence[Example], attempts: Any) -> list[Example]:
    """Return the examples that the model solves in one of its attempts, each with the first answer that its verifier takes."""
    own = []
    for example in examples:
        texts = (candidate.incorrect for candidate in attempts[example.id])
        right = next((text for text in texts if verifiers.grade(example.tests, text).score == 1), None)
        if right is not None:
            own.append(replace(example.with_response(right), id=example.id))
    return own


def trial(bench: Bench, seed: int, first: Path, arm: str) -> Rows:
    """Return the result of an arm that goes on from the first round, from its file or from running it."""
    folder, asked = bench.place(seed, arm, 1), first.parent / "asked"
    folder.mkdir(parents=True, exist_ok=True)
    table = "own" if arm == REJECTION else "examples"
    for name, source in {"examples": table, "faults": "faults"}.items():
        (folder / f"{name}.parquet").unlink(missing_ok=True)
        (folder / f"{name}.parquet").hardlink_to(asked / f"{source}.parquet")
    start = {"path": str(first / "model"), "digest": pinned.digest(first / "model")}
    goes_on = {"tune": {"start": start, "max_tokens": TOKENS, "replay": 0}}
    return bench.measured(seed, folder, merged(bench.recipe.arms[arm], goes_on))


if __name__ == "__main__":
    run_main(__file__)
