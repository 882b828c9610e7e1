"""Recall of Middo on planted defects, and the gain of repairing them: `python benchmarks/middo.py`.

Defects are planted in synthetic functions (`planted.py`), and an oracle refiner repairs every example it receives. A model pretrained
on other functions is tuned on the examples (`d0`); stage `diagnose` measures them; the examples that the curator chose are repaired,
and the same pretrained model is tuned on the result. The arms differ only in the examples that the refiner receives:
  middo   those chosen by the three signals
  random  as many examples in as many sets, drawn at random: the control
  loss    as many, those of the highest loss
  truth   every planted defect: the positive control, which must show an effect
Metrics were fixed beforehand (docs/claims/middo.json):
  recall  of each planted kind, the share that was chosen for a set where it belongs; in brackets the share of all examples that
          was chosen, the recall of chance
  loss    on held-out functions, in nats per token, and on held-out examples of topics that only one training example has
  pass@1  the share of held-out functions whose greedy answer passes its tests
Printed: differences with 95 % intervals over seeds. All arms train on equally many tokens. Settings: params/compare/middo.yaml.
Results are kept in .ratchet/middo, and a second call resumes.
"""

import argparse
import hashlib
import random
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from itertools import product
from pathlib import Path
from statistics import mean
from typing import Any

import functions
import kept as files
from planted import SHOULD, Planted, plant
from quiet import Quiet
from side_by_side import of_seeds, run_main

from tasks.core import statistics
from tasks.core.compute import Compute
from tasks.core.config import Config
from tasks.core.records import Example, FaultPair, Signals
from tasks.core.text.programs import program
from tasks.engine import encode
from tasks.engine.inference import generation, scoring
from tasks.io import config_file, sandbox, tables
from tasks.io.weights import checkpoints
from tasks.methods.curators.middo.config import MiddoConfig
from tasks.methods.curators.middo.method import PASSES, choose
from tasks.stages.diagnose import config as diagnose
from tasks.stages.diagnose import stage as diagnose_stage
from tasks.stages.fetch.config import FromConfig
from tasks.stages.fetch.random_init import random_model
from tasks.stages.tune import config as tune
from tasks.stages.tune import stage as tune_stage

ROOT = Path(__file__).resolve().parents[1]
KEPT = Path(".ratchet/middo")
STARTED, UNSEEN, POOL = slice(300, 1_800), slice(1_800, 1_900), slice(1_900, None)
"""Slices of all functions, after 300 held-out ones: for pretraining, for validation, and the pool of examples."""

Rows = dict[str, Any]


class Recipe(Config):
    """Contents of params/compare/middo.yaml."""

    benchmark: str
    seeds: int
    examples: int
    planted: dict[str, float]
    arms: dict[str, dict[str, Any]]
    """Name → changes of the curator's section."""
    start: dict[str, Any]
    start_tokens: int
    tokens: int
    solved: int
    max_new_tokens: int
    compute: dict[str, Any]
    tune: dict[str, Any]
    diagnose: dict[str, Any]
    methods: dict[str, dict[str, Any]]


RECIPE = config_file.read(ROOT / "params/compare/middo.yaml", Recipe)


def folder(fields: set[str]) -> Path:
    """Return the folder of results that depend on these fields of the recipe."""
    return KEPT / hashlib.sha256(RECIPE.model_dump_json(include=fields).encode()).hexdigest()[:8]


TRAINING = {"compute", "tune", "methods"}
FOLDER = folder(set(Recipe.model_fields) - {"seeds"})


def main() -> None:
    """Run every arm with every seed, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("seeds", type=int, nargs="*", help="instead of the recipe's: 0, 1, …")
    seeds = parser.parse_args().seeds or list(range(RECIPE.seeds))
    arms = ("d0", *RECIPE.arms, "truth")
    results: dict[str, list[Rows]] = {arm: [] for arm in arms}
    compute = Compute.model_validate(RECIPE.compute)
    for rows in of_seeds(lambda seed: {arm: kept(arm, seed) for arm in arms}, seeds, compute):
        for arm, row in rows.items():
            results[arm].append(row)
    table(results)
    for seed in seeds:
        print(f"\nlosses of seed {seed}, before and after the training, by what is the matter: {losses_by_kind(seed)}")


def kept(arm: str, seed: int) -> Rows:
    """Return the result of an arm, from its file or from running it."""
    return files.result(
        FOLDER / f"{arm}-{seed}.json",
        lambda: trial(arm, seed),
        lambda row: f"loss {row['loss']:.4f}, pass@1 {row['pass@1']:.3f}",
    )


def trial(arm: str, seed: int) -> Rows:
    """Choose examples, repair them, tune and measure."""
    work, data = FOLDER / f"work-{seed}", planted(seed)
    first = tuned(work / "d0", data.examples, seed)
    chosen: Mapping[str, Sequence[str]] = {}
    if arm in RECIPE.arms:
        signals = diagnosed(work, data.examples, first)
        config = MiddoConfig.model_validate(RECIPE.methods["middo"] | {"seed": seed} | RECIPE.arms[arm])
        chosen = {row.example: row.chosen for row in choose(signals, config)[0]}
    elif arm == "truth":
        chosen = {name: SHOULD[kind][:1] for name, kind in data.kinds.items()}
    model = tuned(work / arm, mended(data, chosen), seed) if chosen else first
    return {
        "sizes": dict(Counter(name for sets in chosen.values() for name in sets)),
        "recall": {kind: recall(data, kind, chosen, SHOULD[kind]) for kind in sorted(RECIPE.planted)},
        "sets": {f"{kind} {name}": recall(data, kind, chosen, [name]) for kind, name in product(SHOULD, PASSES)},
        "loss": loss(model, held_out()),
        "loss alike": loss(model, data.alike),
        "pass@1": passed(model, held_out()[: RECIPE.solved], RECIPE.max_new_tokens),
    }


def recall(data: Any, kind: str, chosen: Mapping[str, Sequence[str]], sets: Sequence[str]) -> tuple[float, float]:
    """Return the share of a planted kind that was chosen for one of these sets, and the share of all examples that was."""
    caught = {name for name, chosen_by in chosen.items() if set(chosen_by) & set(sets)}
    members = {name for name, other in data.kinds.items() if other == kind}
    return len(members & caught) / len(members), len(caught) / len(data.examples)


def mended(data: Any, chosen: Mapping[str, Sequence[str]]) -> list[Any]:
    """Return the examples after the refiner: hard and low-quality ones are replaced, sparse ones get another of their topic."""
    kept = [data.mended[row.id] if {"hard", "low"} & set(chosen.get(row.id, ())) else row for row in data.examples]
    return kept + [data.further[row.id] for row in data.examples if "sparse" in chosen.get(row.id, ())]


@cache
def rows() -> Sequence[Example]:
    """Return the functions of all seeds."""
    return functions.examples(5_800, seed=0)


def held_out() -> Sequence[Example]:
    """Return the functions that no training uses."""
    return rows()[: STARTED.start]


@cache
def planted(seed: int) -> Planted:
    """Return the examples of a seed with their defects."""
    pool = list(rows()[POOL])
    random.Random(seed).shuffle(pool)
    return plant(pool[: RECIPE.examples], pool[RECIPE.examples : 2 * RECIPE.examples], RECIPE.planted, seed)


@cache
def start() -> Path:
    """Return the folder of the pretrained model of all arms, trained on correct functions."""
    place = folder(TRAINING | {"start", "start_tokens"})
    if not (place / "model").is_dir():
        tokenizer = functions.tokenizer(list(rows()))
        shape = FromConfig.model_validate({"from": "config", **RECIPE.start})
        network = random_model(shape, len(tokenizer), tokenizer.eos_token_id, tokenizer.pad_token_id)
        network.save_pretrained(place / "raw")
        tokenizer.save_pretrained(place / "raw")
        train(place / "raw", place, rows()[STARTED], 0, RECIPE.start_tokens)
    return place / "model"


def tuned(folder: Path, examples: Sequence[Example], seed: int) -> Path:
    """Return the folder of the pretrained model tuned on these examples."""
    if not (folder / "model").is_dir():
        train(start(), folder, examples, seed, RECIPE.tokens)
    return folder / "model"


def train(base: Path, folder: Path, examples: Sequence[Example], seed: int, tokens: int) -> None:
    """Run stage `tune` on these examples; its model is renamed into place when complete."""
    shutil.rmtree(folder / "half", ignore_errors=True)
    shutil.rmtree(folder / "work", ignore_errors=True)
    run = Quiet(folder)
    tables.write(folder / "examples.parquet", examples, Example)
    tables.write(folder / "valid.parquet", rows()[UNSEEN], Example)
    tables.write(folder / "faults.parquet", [], FaultPair)
    section = RECIPE.tune | {"max_tokens": tokens, "seed": seed}
    config = tune.StageConfig.model_validate({"compute": RECIPE.compute, "tune": section, "methods": RECIPE.methods})
    inputs = {name: folder / f"{name}.parquet" for name in ("examples", "valid", "faults")}
    tune_stage.main(inputs | {"base": base}, {"model": folder / "half"}, config, run)
    (folder / "half").rename(folder / "model")


def diagnosed(folder: Path, examples: Sequence[Example], model: Path) -> list[Signals]:
    """Return the signals of stage `diagnose`, which are the same for all arms."""
    if not (folder / "signals.parquet").is_file():
        tables.write(folder / "examples.parquet", examples, Example)
        inputs = {"base": start(), "tuned": model, "examples": folder / "examples.parquet", "embedder": folder}
        outputs = {"signals": folder / "half.parquet", "diagnosis": folder / "diagnosis.json"}
        outputs["probes"] = folder / "probes.parquet"
        sections = {"compute": RECIPE.compute, "diagnose": RECIPE.diagnose, "methods": RECIPE.methods}
        diagnose_stage.main(inputs, outputs, diagnose.StageConfig.model_validate(sections), Quiet(folder))
        outputs["signals"].rename(folder / "signals.parquet")
    return tables.read(folder / "signals.parquet", Signals)


def losses_by_kind(seed: int) -> str:
    """Format the mean losses of `diagnose` for each planted kind, and for examples without a defect."""
    signals, kinds = tables.read(FOLDER / f"work-{seed}" / "signals.parquet", Signals), planted(seed).kinds
    parts = []
    for kind in (*SHOULD, None):
        rows = [row for row in signals if kinds.get(row.example) == kind]
        known = [(row.loss_before, row.loss_after) for row in rows if row.loss_before and row.loss_after]
        means = " ".join(f"{mean(losses):.2f}" for losses in zip(*known, strict=True))
        parts.append(f"{kind or 'nothing'} {means or 'none'}")
    return ", ".join(parts)


def loss(model: Path, examples: Sequence[Example]) -> float:
    """Return the loss of the responses in nats per token."""
    loaded, tokenizer = checkpoints.load(model)
    sequences = [sequence for sequence in encode.examples(examples, tokenizer, 1024) if sequence]
    return scoring.mean(scoring.losses(loaded.eval(), sequences))


def passed(model: Path, examples: Sequence[Example], longest: int) -> float:
    """Return the share of functions whose greedy answer passes."""
    loaded, tokenizer = checkpoints.load(model)
    prompts = [example.prompt for example in examples]
    texts = generation.write(loaded.eval(), prompts, tokenizer, max_new_tokens=longest, batch_size=16)
    cases = (
        sandbox.Case(program(text), example.tests)
        for text, example in zip(texts, examples, strict=True)
        if example.tests
    )
    return sum(verdict.kind == "passed" for verdict in sandbox.run(cases)) / len(examples)


def table(by_arm: Mapping[str, Sequence[Rows]]) -> None:
    """Print for each arm its metrics, its recall, and its differences to the other arms."""
    metrics = ("loss", "loss alike", "pass@1")
    for arm, results in by_arm.items():
        print(f"\n{arm}: " + ", ".join(f"{metric} {mean(r[metric] for r in results):.4f}" for metric in metrics))
        print(f"  sizes {[r['sizes'] for r in results]}")
        for key in ("recall", "sets"):
            shares = {name: [mean(r[key][name][i] for r in results) for i in (0, 1)] for name in results[0][key]}
            print(f"  {key} (by chance): " + ", ".join(f"{n} {a:.2f} ({b:.2f})" for n, (a, b) in shares.items()))
        print("  recall less twice chance: " + ", ".join(f"{kind} {_by_seed(results, kind)}" for kind in SHOULD))
        for other in by_arm:
            if other != arm:
                changes = ", ".join(
                    f"{m} {change([r[m] - o[m] for r, o in _pairs(by_arm, arm, other)])}" for m in metrics
                )
                print(f"  to {other}: {changes}")


def _pairs(by_arm: Mapping[str, Sequence[Rows]], arm: str, other: str) -> Iterator[tuple[Rows, Rows]]:
    yield from zip(by_arm[arm], by_arm[other], strict=True)


def _by_seed(results: Sequence[Rows], kind: str) -> str:
    return change([r["recall"][kind][0] - 2 * r["recall"][kind][1] for r in results])


def change(by_seed: Sequence[float]) -> str:
    """Format the mean of differences, with its interval over seeds, and each of them."""
    estimate = statistics.over_seeds(by_seed)
    return f"{estimate.value:+.4f} [{estimate.low:+.4f}, {estimate.high:+.4f}] ({', '.join(f'{value:+.4f}' for value in by_seed)})"


if __name__ == "__main__":
    run_main(__file__)
