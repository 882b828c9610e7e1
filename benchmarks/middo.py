"""Whether Middo finds what is wrong with data, and what mending it is worth: `python benchmarks/middo.py`.

Defects are planted in synthetic functions (`planted.py`), and a refiner that knows the truth mends whatever it is handed. A model
that has read other functions is tuned on the examples (`d0`); stage `diagnose` looks at them; what the curator chose is mended, and
the same start is tuned on what came of it. The arms differ in what is handed to the refiner, and in nothing else:
  middo   what the three signals chose
  random  as many examples in as many sets, drawn at random: the control
  loss    as many, those of the highest loss
  truth   every planted defect: the positive control, which must show something
Metrics were fixed beforehand (docs/claims/middo.json):
  recall  of each planted kind, the share that was chosen for a set where it belongs; in brackets the share of all examples that
          was, which is what chance finds
  loss    on held-out functions, in nats a token, and on held-out examples of the topics that one example speaks of
  pass@1  the share of held-out functions whose greedy answer passes its tests
Told are differences with 95 % intervals over seeds. All arms train on equally many tokens. Settings: params/compare/middo.yaml.
Results are kept in .ratchet/middo, and a second call goes on where the first one ended.
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

from tasks.core import statistics
from tasks.core.params import Params
from tasks.core.programs import program
from tasks.core.records import Example, FaultPair, Signals
from tasks.engine import encode, generation, scoring
from tasks.io import checkpoints, params, sandbox, tables
from tasks.methods.curators.middo.config import MiddoConfig
from tasks.methods.curators.middo.method import PASSES, choose
from tasks.stages.diagnose import params as diagnose
from tasks.stages.diagnose import stage as diagnose_stage
from tasks.stages.fetch.build import random_model
from tasks.stages.fetch.params import FromConfig
from tasks.stages.tune import params as tune
from tasks.stages.tune import stage as tune_stage

ROOT = Path(__file__).resolve().parents[1]
KEPT = Path(".ratchet/middo")
STARTED, UNSEEN, POOL = slice(300, 1_800), slice(1_800, 1_900), slice(1_900, None)
"""Of all functions there are the first 300 are held out; then come what the start reads, what trainings validate on, and the rest."""

Rows = dict[str, Any]


class Recipe(Params):
    """What params/compare/middo.yaml says."""

    benchmark: str
    seeds: int
    examples: int
    planted: dict[str, float]
    arms: dict[str, dict[str, Any]]
    """Name → what differs in the curator's section."""
    start: dict[str, Any]
    start_tokens: int
    tokens: int
    solved: int
    max_new_tokens: int
    compute: dict[str, Any]
    tune: dict[str, Any]
    diagnose: dict[str, Any]
    methods: dict[str, dict[str, Any]]


RECIPE = params.read(ROOT / "params/compare/middo.yaml", Recipe)


def folder(fields: set[str]) -> Path:
    """Where what follows from these fields of the recipe is kept."""
    return KEPT / hashlib.sha256(RECIPE.model_dump_json(include=fields).encode()).hexdigest()[:8]


TRAINING = {"compute", "tune", "methods"}
FOLDER = folder(set(Recipe.model_fields) - {"seeds"})


def main() -> None:
    """Run every arm with every seed, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("seeds", type=int, nargs="*", help="instead of the recipe's: 0, 1, …")
    seeds = parser.parse_args().seeds or list(range(RECIPE.seeds))
    arms = ("d0", *RECIPE.arms, "truth")
    found: dict[str, list[Rows]] = {arm: [] for arm in arms}
    for seed in seeds:
        for arm in arms:
            found[arm].append(kept(arm, seed))
    table(found)
    for seed in seeds:
        print(f"\nlosses of seed {seed}, before and after the training, by what is the matter: {losses_by_kind(seed)}")


def kept(arm: str, seed: int) -> Rows:
    """What came of an arm, from the file that an earlier call left or from running it."""
    return files.result(
        FOLDER / f"{arm}-{seed}.json",
        lambda: trial(arm, seed),
        lambda made: f"loss {made['loss']:.4f}, pass@1 {made['pass@1']:.3f}",
    )


def trial(arm: str, seed: int) -> Rows:
    """Choose, mend, tune and measure."""
    work, data = FOLDER / f"work-{seed}", planted(seed)
    first = tuned(work / "d0", data.examples, seed)
    chosen: Mapping[str, Sequence[str]] = {}
    if arm in RECIPE.arms:
        signals = diagnosed(work, data.examples, first)
        settings = MiddoConfig.model_validate(RECIPE.methods["middo"] | {"seed": seed} | RECIPE.arms[arm])
        chosen = {row.example: row.chosen for row in choose(signals, settings)[0]}
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
    """The share of a planted kind that was chosen for one of these sets; and the share of all examples that was."""
    caught = {name for name, found in chosen.items() if set(found) & set(sets)}
    members = {name for name, found in data.kinds.items() if found == kind}
    return len(members & caught) / len(members), len(caught) / len(data.examples)


def mended(data: Any, chosen: Mapping[str, Sequence[str]]) -> list[Any]:
    """The examples after the refiner: what is hard or poor gives way to what is right, what is alone gets company."""
    kept = [data.mended[row.id] if {"hard", "low"} & set(chosen.get(row.id, ())) else row for row in data.examples]
    return kept + [data.further[row.id] for row in data.examples if "sparse" in chosen.get(row.id, ())]


@cache
def rows() -> Sequence[Example]:
    """All functions there are for all seeds."""
    return functions.examples(5_800, seed=0)


def held_out() -> Sequence[Example]:
    """The functions that nothing trains on."""
    return rows()[: STARTED.start]


@cache
def planted(seed: int) -> Planted:
    """The examples of a seed with their defects."""
    pool = list(rows()[POOL])
    random.Random(seed).shuffle(pool)
    return plant(pool[: RECIPE.examples], pool[RECIPE.examples : 2 * RECIPE.examples], RECIPE.planted, seed)


@cache
def start() -> Path:
    """The folder of the model that every arm starts from: it has read functions, all of them right."""
    place = folder(TRAINING | {"start", "start_tokens"})
    if not (place / "model").is_dir():
        tokenizer = functions.tokenizer(list(rows()))
        shape = FromConfig.model_validate({"from": "config", **RECIPE.start})
        made = random_model(shape, len(tokenizer), tokenizer.eos_token_id, tokenizer.pad_token_id)
        made.save_pretrained(place / "raw")
        tokenizer.save_pretrained(place / "raw")
        train(place / "raw", place, rows()[STARTED], 0, RECIPE.start_tokens)
    return place / "model"


def tuned(folder: Path, examples: Sequence[Example], seed: int) -> Path:
    """The folder of the model that examples make of the start."""
    if not (folder / "model").is_dir():
        train(start(), folder, examples, seed, RECIPE.tokens)
    return folder / "model"


def train(base: Path, folder: Path, examples: Sequence[Example], seed: int, tokens: int) -> None:
    """Stage `tune` on these examples; its model comes to be as a whole."""
    shutil.rmtree(folder / "half", ignore_errors=True)
    shutil.rmtree(folder / "work", ignore_errors=True)
    run = Quiet(folder)
    tables.write(folder / "examples.parquet", examples, Example)
    tables.write(folder / "valid.parquet", rows()[UNSEEN], Example)
    tables.write(folder / "faults.parquet", [], FaultPair)
    section = RECIPE.tune | {"max_tokens": tokens, "seed": seed}
    settings = tune.Settings.model_validate({"compute": RECIPE.compute, "tune": section, "methods": RECIPE.methods})
    inputs = {name: folder / f"{name}.parquet" for name in ("examples", "valid", "faults")}
    tune_stage.main(inputs | {"base": base}, {"model": folder / "half"}, settings, run)
    (folder / "half").rename(folder / "model")


def diagnosed(folder: Path, examples: Sequence[Example], model: Path) -> list[Signals]:
    """What stage `diagnose` makes of the examples, which is the same for all arms."""
    if not (folder / "signals.parquet").is_file():
        tables.write(folder / "examples.parquet", examples, Example)
        inputs = {"base": start(), "tuned": model, "examples": folder / "examples.parquet", "embedder": folder}
        outputs = {"signals": folder / "half.parquet", "diagnosis": folder / "diagnosis.json"}
        whole = {"compute": RECIPE.compute, "diagnose": RECIPE.diagnose, "methods": RECIPE.methods}
        diagnose_stage.main(inputs, outputs, diagnose.Settings.model_validate(whole), Quiet(folder))
        outputs["signals"].rename(folder / "signals.parquet")
    return tables.read(folder / "signals.parquet", Signals)


def losses_by_kind(seed: int) -> str:
    """The mean of what `diagnose` found for each planted kind, and for examples with which nothing is the matter."""
    signals, kinds = tables.read(FOLDER / f"work-{seed}" / "signals.parquet", Signals), planted(seed).kinds
    told = []
    for kind in (*SHOULD, None):
        rows = [row for row in signals if kinds.get(row.example) == kind]
        known = [(row.loss_before, row.loss_after) for row in rows if row.loss_before and row.loss_after]
        means = " ".join(f"{mean(losses):.2f}" for losses in zip(*known, strict=True))
        told.append(f"{kind or 'nothing'} {means or 'none'}")
    return ", ".join(told)


def loss(model: Path, examples: Sequence[Example]) -> float:
    """Nats a token of the responses."""
    loaded, tokenizer = checkpoints.load(model)
    sequences = [sequence for sequence in encode.examples(examples, tokenizer, 1024) if sequence]
    return scoring.mean(scoring.losses(loaded.eval(), sequences))


def passed(model: Path, examples: Sequence[Example], longest: int) -> float:
    """The share of functions whose greedy answer passes."""
    loaded, tokenizer = checkpoints.load(model)
    prompts = [example.prompt for example in examples]
    texts = generation.write(loaded.eval(), prompts, tokenizer, max_new_tokens=longest, batch_size=16)
    cases = (
        sandbox.Case(program(text), example.tests)
        for text, example in zip(texts, examples, strict=True)
        if example.tests
    )
    return sum(verdict.outcome == "passed" for verdict in sandbox.run(cases)) / len(examples)


def table(found: Mapping[str, Sequence[Rows]]) -> None:
    """A line for each arm: its level, what it found, and its differences to the others."""
    metrics = ("loss", "loss alike", "pass@1")
    for arm, results in found.items():
        print(f"\n{arm}: " + ", ".join(f"{metric} {mean(r[metric] for r in results):.4f}" for metric in metrics))
        print(f"  sizes {[r['sizes'] for r in results]}")
        for key in ("recall", "sets"):
            shares = {name: [mean(r[key][name][i] for r in results) for i in (0, 1)] for name in results[0][key]}
            print(f"  {key} (by chance): " + ", ".join(f"{n} {a:.2f} ({b:.2f})" for n, (a, b) in shares.items()))
        print("  recall less twice chance: " + ", ".join(f"{kind} {_by_seed(results, kind)}" for kind in SHOULD))
        for other in found:
            if other != arm:
                told = ", ".join(f"{m} {change([r[m] - o[m] for r, o in _pairs(found, arm, other)])}" for m in metrics)
                print(f"  to {other}: {told}")


def _pairs(found: Mapping[str, Sequence[Rows]], arm: str, other: str) -> Iterator[tuple[Rows, Rows]]:
    yield from zip(found[arm], found[other], strict=True)


def _by_seed(results: Sequence[Rows], kind: str) -> str:
    return change([r["recall"][kind][0] - 2 * r["recall"][kind][1] for r in results])


def change(by_seed: Sequence[float]) -> str:
    """The mean of differences, with its interval over seeds, and each of them."""
    found = statistics.over_seeds(by_seed)
    return f"{found.value:+.4f} [{found.low:+.4f}, {found.high:+.4f}] ({', '.join(f'{one:+.4f}' for one in by_seed)})"


if __name__ == "__main__":
    main()
