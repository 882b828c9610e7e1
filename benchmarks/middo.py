"""Whether Middo finds what is wrong with data, and what mending it is worth: `python benchmarks/middo.py 0 1 2`.

Defects are planted in synthetic functions (`planted.py`), and a refiner that knows the truth mends whatever it is handed. A model
that has read other functions is tuned on the examples (`d0`); stage `diagnose` looks at them; what it chose is mended, and the same
start is tuned on what came of it. The arms differ in what is handed to the refiner, and in nothing else:
  middo   what the three signals chose
  random  as many examples in as many sets, drawn at random: the control
  loss    as many, those of the highest loss
  truth   every planted defect: the positive control, which must show something
Metrics were fixed beforehand:
  recall  of each planted kind, the share that was chosen for a set where it belongs; in brackets the share of all examples that
          was, which is what chance finds
  loss    on held-out functions, in nats a token, and on held-out examples of the topics that one example speaks of
  pass@1  the share of held-out functions whose greedy answer passes its tests
Told are differences to `d0` and to `random` with 95 % intervals over seeds. All arms train on equally many tokens. Results are kept
in .ratchet/middo, and a second call goes on where the first one ended. One core; about eight minutes a seed.
"""

import argparse
import hashlib
import json
import shutil
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

ROOT = Path.cwd()
KEPT = Path(".ratchet/middo")
CONTROLS = {"middo": "none", "random": "random", "loss": "loss"}
ARMS = ("d0", *CONTROLS, "truth")
COMPUTE = {"precision": "fp32", "threads": 1}
METHODS = {"none": {}, "all": {}, "adamw": {"learning_rate": 1e-3}, "cross_entropy": {}}
SHAPE = {"hidden": 128, "layers": 3, "heads": 4, "kv_heads": 4, "mlp": 341, "context": 1024, "seed": 0}
FIRST_TOKENS = 1_500_000
"""What the start has read, of 1,500 functions that appear nowhere else."""
LONGEST = 96
"""Tokens of an answer."""

T = TypeVar("T")
Rows = dict[str, Any]


def main() -> None:
    """Run every arm with every seed, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("seeds", type=int, nargs="*", default=[0, 1, 2])
    parser.add_argument("--examples", type=int, default=1_200)
    parser.add_argument("--tokens", type=int, default=600_000, help="that each arm trains on")
    parser.add_argument("--solved", type=int, default=100, help="held-out functions that answers are written for")
    options = parser.parse_args()
    sys.path.insert(0, str(ROOT))
    found: dict[str, list[Rows]] = {arm: [] for arm in ARMS}
    for seed in options.seeds:
        for arm in ARMS:
            found[arm].append(kept(arm, seed, options.examples, options.tokens, options.solved))
    table(found)


def kept(arm: str, seed: int, count: int, tokens: int, solved: int) -> Rows:
    """What came of an arm, from the file that an earlier call left or from running it."""
    basis = repr((SHAPE, METHODS, FIRST_TOKENS, count, tokens, solved))
    file = KEPT / f"{hashlib.sha256(basis.encode()).hexdigest()[:8]}-{arm}-{seed}.json"
    if not file.is_file():
        result = trial(arm, seed, count, tokens, solved)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(result), encoding="utf-8")
        print(f"{file.stem}: loss {result['loss']:.4f}, pass@1 {result['pass@1']:.3f}", flush=True)
    loaded: Rows = json.loads(file.read_text(encoding="utf-8"))
    return loaded


def trial(arm: str, seed: int, count: int, tokens: int, solved: int) -> Rows:
    """Choose, mend, tune and measure."""
    folder, data = KEPT / f"work-{seed}", planted(count, seed)
    first = tuned(folder / "d0", data.examples, seed, tokens)
    chosen: Mapping[str, Sequence[str]] = {}
    if arm in CONTROLS:
        chosen = diagnosed(folder, data.examples, first, seed, CONTROLS[arm])
    elif arm == "truth":
        chosen = {name: known(kind)[:1] for name, kind in data.kinds.items()}
    model = tuned(folder / arm, mended(data, chosen), seed, tokens) if chosen else first
    return {
        "recall": {kind: recall(data, kind, chosen) for kind in sorted(set(data.kinds.values()))},
        "loss": loss(model, held_out()),
        "loss alike": loss(model, data.alike),
        "pass@1": passed(model, held_out()[:solved]),
    }


def known(kind: str) -> Sequence[str]:
    """The sets that a planted kind belongs into."""
    from planted import SHOULD

    return SHOULD[kind]


def recall(data: Any, kind: str, chosen: Mapping[str, Sequence[str]]) -> tuple[float, float]:
    """The share of a planted kind that was chosen for a set where it belongs; and the share of all examples that was."""
    caught = {name for name, sets in chosen.items() if set(sets) & set(known(kind))}
    members = {name for name, found in data.kinds.items() if found == kind}
    return len(members & caught) / len(members), len(caught) / len(data.examples)


def mended(data: Any, chosen: Mapping[str, Sequence[str]]) -> list[Any]:
    """The examples after the refiner: what is hard or poor gives way to what is right, what is alone gets company."""
    kept = [data.mended[row.id] if {"hard", "low"} & set(chosen.get(row.id, ())) else row for row in data.examples]
    return kept + [data.further[row.id] for row in data.examples if "sparse" in chosen.get(row.id, ())]


@cache
def rows() -> Sequence[Any]:
    """All functions there are for all seeds."""
    import functions

    return functions.examples(5_800, seed=0)


def held_out() -> Sequence[Any]:
    """The functions that nothing trains on."""
    return rows()[:300]


@cache
def planted(count: int, seed: int) -> Any:
    """The examples of a seed with their defects."""
    import random

    from planted import plant

    pool = list(rows()[1_900:])
    random.Random(seed).shuffle(pool)
    return plant(pool[:count], pool[count : 2 * count], seed)


class Quiet:
    """A run of a stage to which nobody listens."""

    item = "r1"

    def __init__(self, folder: Path) -> None:
        self.work, self.cache = folder / "work", folder / "cache"
        self.work.mkdir(parents=True, exist_ok=True)

    def say(self, text: str) -> None: ...

    def note(self, **params: Any) -> None: ...

    def log(self, step: int | None = None, **metrics: float) -> None: ...

    def track(self, items: Iterable[T], *, total: int | None = None, unit: str = "item") -> Iterator[T]:
        yield from items


@cache
def start() -> Path:
    """The folder of the model that every arm starts from: it has read functions, all of them right."""
    import functions

    from tasks.stages.fetch.build import random_model
    from tasks.stages.fetch.params import FromConfig

    folder = KEPT / f"start-{hashlib.sha256(repr((SHAPE, FIRST_TOKENS)).encode()).hexdigest()[:8]}"
    if not (folder / "model").is_dir():
        tokenizer = functions.tokenizer(list(rows()))
        made = random_model(
            FromConfig.model_validate({"from": "config", **SHAPE}),
            len(tokenizer), tokenizer.eos_token_id, tokenizer.pad_token_id,
        )  # fmt: skip
        made.save_pretrained(folder / "raw")
        tokenizer.save_pretrained(folder / "raw")
        tune(folder / "raw", folder, rows()[300:1_800], 0, FIRST_TOKENS)
    return folder / "model"


def tuned(folder: Path, examples: Sequence[Any], seed: int, tokens: int) -> Path:
    """The folder of the model that examples make of the start."""
    if not (folder / "model").is_dir():
        tune(start(), folder, examples, seed, tokens)
    return folder / "model"


def tune(base: Path, folder: Path, examples: Sequence[Any], seed: int, tokens: int) -> None:
    """Stage `tune` on these examples; its model comes to be as a whole."""
    from tasks.core.records import Example, FaultPair
    from tasks.io import tables
    from tasks.stages.tune import stage
    from tasks.stages.tune.params import Settings

    shutil.rmtree(folder / "half", ignore_errors=True)
    shutil.rmtree(folder / "work", ignore_errors=True)
    tables.write(folder / "examples.parquet", examples, Example)
    tables.write(folder / "valid.parquet", rows()[1_800:1_900], Example)
    tables.write(folder / "faults.parquet", [], FaultPair)
    section = {"adapter": "none", "pack_tokens": 2048, "warmup": 0.05, "save_every": 0, "epochs": 1000}
    settings = {"compute": COMPUTE, "tune": section | {"max_tokens": tokens, "seed": seed}, "methods": METHODS}
    inputs = {name: folder / f"{name}.parquet" for name in ("examples", "valid", "faults")}
    stage.main(inputs | {"base": base}, {"model": folder / "half"}, Settings.model_validate(settings), Quiet(folder))
    (folder / "half").rename(folder / "model")


def diagnosed(folder: Path, examples: Sequence[Any], model: Path, seed: int, control: str) -> dict[str, list[str]]:
    """Example → the sets that stage `diagnose` chose it for."""
    from tasks.core.records import Example, Signals
    from tasks.io import tables
    from tasks.stages.diagnose import stage
    from tasks.stages.diagnose.params import Settings

    tables.write(folder / "examples.parquet", examples, Example)
    inputs = {"base": start(), "tuned": model, "examples": folder / "examples.parquet", "embedder": folder}
    outputs = {"signals": folder / "signals.parquet", "diagnosis": folder / "diagnosis.json"}
    settings = {"compute": COMPUTE, "diagnose": {}, "methods": {"middo": {"control": control, "seed": seed}}}
    stage.main(inputs, outputs, Settings.model_validate(settings), Quiet(folder))
    return {row.example: row.chosen for row in tables.read(outputs["signals"], Signals)}


def loss(model: Path, examples: Sequence[Any]) -> float:
    """Nats a token of the responses."""
    from tasks.engine import encode, scoring
    from tasks.io import checkpoints

    loaded, tokenizer = checkpoints.load(model)
    sequences = [sequence for sequence in encode.examples(examples, tokenizer, 1024) if sequence]
    return scoring.mean(scoring.losses(loaded.eval(), sequences))


def passed(model: Path, examples: Sequence[Any]) -> float:
    """The share of functions whose greedy answer passes."""
    from tasks.core.programs import program
    from tasks.engine import generation
    from tasks.io import checkpoints, sandbox

    loaded, tokenizer = checkpoints.load(model)
    prompts = [example.prompt for example in examples]
    texts = generation.write(loaded.eval(), prompts, tokenizer, max_new_tokens=LONGEST, batch_size=16)
    cases = (sandbox.Case(program(text), example.tests) for text, example in zip(texts, examples, strict=True))
    return sum(verdict.outcome == "passed" for verdict in sandbox.run(cases)) / len(examples)


def table(found: Mapping[str, Sequence[Rows]]) -> None:
    """A line for each arm: what it found, its level, and its differences to no mending and to mending at random."""
    metrics = ("loss", "loss alike", "pass@1")
    print(f"\n{'':<8}" + "".join(f"{metric:>12}" for metric in metrics) + "   recall of each kind (by chance)")
    for arm, results in found.items():
        recalls = ", ".join(
            f"{kind} {mean(r['recall'][kind][0] for r in results):.2f} ({mean(r['recall'][kind][1] for r in results):.2f})"
            for kind in results[0]["recall"]
        )
        print(
            f"{arm:<8}" + "".join(f"{mean(r[m] for r in results):12.4f}" for m in metrics) + f"   {recalls}", flush=True
        )
        for other in ("d0", "random"):
            if arm not in ("d0", other):
                print(f"  to {other}: " + ", ".join(f"{m} {change(results, found[other], m)}" for m in metrics))


def change(results: Sequence[Rows], others: Sequence[Rows], metric: str) -> str:
    """The difference of two arms, with its interval over seeds."""
    from tasks.core import statistics

    found = statistics.over_seeds([one[metric] - two[metric] for one, two in zip(results, others, strict=True)])
    return f"{found.value:+.4f} [{found.low:+.4f}, {found.high:+.4f}]"


def mean(values: Iterable[float]) -> float:
    """Their mean."""
    listed = list(values)
    return sum(listed) / len(listed)


if __name__ == "__main__":
    main()
