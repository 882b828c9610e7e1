"""Gain of weighting faults: `python benchmarks/faults.py synthetic 0 1 2 3 4`, or `… workspace 0 1`.

The second after `ratchet use workstation && ratchet run faults`.

Every arm trains the same model on the same examples and pairs for the same number of steps: plain fine-tuning (`sft`), FAIT's modes
and parts (parts add less weight in total), marks of ten times the weight (`strong`, the control that must show an effect), marks of
all three weights at random places of the same programs (`random` has the constant one), and DPO on the same pairs (objective `dpo`; the
figures in `docs/claims/data` are of trl's trainer, which it has replaced). Each arm has
its own learning rate, that of the lowest loss on marked tokens of validation pairs; for DPO, which does not lower that loss, that of
the largest gap. The search extends the list of rates if the best one is at its edge.
Metrics were fixed beforehand, on pairs of held-out functions, found like the training pairs:
  marked  loss on the differing tokens of the right program, in nats per token
  gap     p(right) - p(wrong), p the geometric mean over a side's differing tokens
  pass@1  the share of functions whose greedy answer passes its tests
Printed: differences to `sft`, to `random` and to an arm's own marks at random places, averaged over seeds, with 95 % intervals over
functions (groups) and over seeds. `docs/ledger.py` reads all three from comparison faults-SETUP, followed by the arms if they were
named: faults-synthetic-margin-dpo.
`synthetic`: a LLaMA of 0.6M weights is pretrained on 4,400 of `functions.py`, half of their parts with mistakes, and then trained on
1,000 others without; `workspace`: its own model, data and composition. Trials are kept in .ratchet/faults, and a second call resumes.
"""

import argparse
import hashlib
import json
import math
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from faults_table import gap, marked, passed, table

ROOT = Path.cwd()
KEPT = Path(".ratchet/faults")
ARMS: dict[str, dict[str, Any]] = {
    "sft": {"weighting": "none"},
    "constant": {"weighting": "constant"},
    "margin": {"weighting": "margin"},
    "random": {"weighting": "constant", "placement": "random"},
    "lines only": {"weighting": "margin", "tokens": 0.0},
    "tokens only": {"weighting": "margin", "lines": 0.0},
    "strong": {"weighting": "constant", "tokens": 10.0},
    "margin at random": {"weighting": "margin", "placement": "random"},
    "strong at random": {"weighting": "constant", "tokens": 10.0, "placement": "random"},
    "dpo": {"pairs": "faults", "beta": 0.1},
}
LONGEST = 400
"""Tokens of the longest example."""
PAIRS = {"train": 1_000, "valid": 40, "test": 300}
"""Largest number of pairs of each split; the learning rate is chosen by those of `valid`."""
FIRST_EPOCHS = 16
MOST_RATES = 7


@dataclass(frozen=True)
class Setup:
    """Model, data and settings that all arms share."""

    sources: Sequence[dict[str, Any]]
    """Sources of wrong programs."""

    load: Callable[[], tuple[Any, Any]]
    """Returns the model to train, and its tokenizer."""
    train: Sequence[Any]
    valid: Sequence[Any]
    test: Sequence[Any]
    plan: Any
    sections: dict[str, Any]
    compute: Any
    rates: Sequence[float]
    dpo_rates: Sequence[float]
    max_new_tokens: int
    solved: int
    """Number of held-out functions to answer."""


def main() -> None:
    """Choose each arm's rate, train it with every seed, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("setup", choices=["synthetic", "workspace"])
    parser.add_argument("seeds", type=int, nargs="*", default=[0, 1])
    parser.add_argument("--tokens", type=int, default=10_000, help="trained and prompt tokens of an arm (workspace)")
    parser.add_argument("--arms", nargs="*", default=list(ARMS))
    options = parser.parse_args()
    from side_by_side import of_seeds

    from flows.experiments import results_table

    setup = synthetic() if options.setup == "synthetic" else workspace(options.tokens)
    pairs = {name: list(islice(fault_pairs(setup, getattr(setup, name)), most)) for name, most in PAIRS.items()}
    print({name: len(rows) for name, rows in pairs.items()}, flush=True)
    trial = partial(kept, setup, pairs, f"{options.setup}-{options.tokens}")
    results = {"base": [trial("base", 0.0, 0, final=True)]}
    untrained = trial("base", 0.0, 0, final=False)
    for arm in options.arms:
        rates = list(setup.dpo_rates if arm == "dpo" else setup.rates)
        best = best_rate(rates, partial(trial, arm, seed=0, final=False), untrained, largest_gap=arm == "dpo")
        print(f"{arm}: {best:g} of {', '.join(f'{rate:g}' for rate in rates)}", flush=True)
        results[arm] = list(of_seeds(partial(trial, arm, best, final=True), options.seeds, setup.compute))
        table(results)
    named = options.arms if options.arms != list(ARMS) else []
    results_table.save_figures(
        "-".join(["faults", options.setup, *named]).replace(" ", "-"), figures(results, options.seeds)
    )


def figures(results: dict[str, list[dict[str, Any]]], seeds: list[int]) -> list[dict[str, Any]]:
    """Return a row for each training."""
    return [
        {"composition": arm, "seed": seed, "marked": marked(row), "gap": gap(row), "pass@1": passed(row)}
        for arm, rows in results.items()
        for seed, row in zip(seeds if arm != "base" else [0], rows, strict=True)
    ]


def best_rate(
    rates: list[float], trial: Callable[[float], dict[str, Any]], untrained: dict[str, Any], *, largest_gap: bool
) -> float:
    """Return the rate of the lowest marked loss, or of the largest gap. If it is at an edge of `rates`, they are extended there; if no
    rate is better than no training, they are extended upwards, since noise would decide among them."""

    def badness(tried: dict[str, Any]) -> float:
        return -gap(tried) if largest_gap else marked(tried)

    def best() -> float:
        return min(rates, key=lambda rate: badness(trial(rate)))

    while len(rates) < MOST_RATES:
        candidate = best()
        level = badness(trial(candidate)) >= badness(untrained)
        if level or candidate == rates[-1]:
            rates.append(rates[-1] ** 2 / rates[-2])
        elif candidate == rates[0]:
            rates.insert(0, candidate**2 / rates[1])
        else:
            break
    return best()


def synthetic() -> Setup:
    """Return the setup `synthetic`, small enough for many seeds."""
    import functions

    from tasks.core.compute import Compute
    from tasks.core.training import Training
    from tasks.engine import device, encode
    from tasks.engine.training import compose, train
    from tasks.stages.fetch.config import FromConfig
    from tasks.stages.fetch.random_init import random_model

    rows, wrong = functions.examples(5_800, seed=0), functions.mistaken(5_800, seed=0)
    tokenizer, compute = functions.tokenizer(rows), Compute(precision="fp32", threads=1)
    device.use(compute)
    shape = {"hidden": 128, "layers": 3, "heads": 4, "kv_heads": 4, "mlp": 341, "context": 512, "seed": 0}
    plan = Training(
        adapter="none", max_tokens=10**9, pack_tokens=2048, warmup=0.05, save_every=0, objective="cross_entropy"
    )
    sections = {"none": {}, "all": {}, "adamw": {"learning_rate": 3e-3}, "cross_entropy": {}}
    model = partial(random_model, FromConfig.model_validate({"from": "config", **shape}))
    first = KEPT / "synthetic-base.safetensors"

    def load() -> tuple[Any, Any]:
        from safetensors.torch import load_model, save_model

        network = model(len(tokenizer), tokenizer.eos_token_id, tokenizer.pad_token_id)
        if not first.is_file():
            sequences = [s for s in encode.examples(wrong[1_400:], tokenizer, plan.pack_tokens) if s]
            with tempfile.TemporaryDirectory() as work:
                parts, long = compose.read(plan, sections), plan.model_copy(update={"epochs": FIRST_EPOCHS})
                train.train(network.train(), train.TrainData(sequences), parts, long, compute, Path(work))
            save_model(network, str(first))
            return load()
        load_model(network, str(first))
        return network, tokenizer

    return Setup(
        [{"from": "given", "path": given(rows, wrong)}], load, rows[:1_000], rows[1_000:1_100], rows[1_100:1_400], plan, sections,
        compute, (1e-4, 3e-4, 1e-3, 3e-3), (5e-6, 5e-5, 5e-4), 120, 300,
    )  # fmt: skip


def given(rows: Sequence[Any], wrong: Sequence[Any]) -> Path:
    """Write a file of pairs: the program of each example, and its wrong version."""
    from tasks.core.text.programs import program

    pairs = [
        {"prompt": row.prompt[0].content, "correct": program(row.response), "incorrect": program(other.response)}
        for row, other in zip(rows, wrong, strict=True)
    ]
    file = KEPT / "given.jsonl"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(json.dumps(pair) + "\n" for pair in pairs), encoding="utf-8")
    return file


def workspace(tokens: int) -> Setup:
    """Return the setup `workspace`: its model, data and composition."""
    from tasks import configuration
    from tasks.core.records import Example
    from tasks.engine.training import compose, job
    from tasks.io import tables
    from tasks.stages.faults.verify import has_tests

    config = configuration.load()
    plan = config.tune.model_copy(update={"max_tokens": tokens, "epochs": 1, "save_every": 0})
    sections = configuration.for_stage("tune", config).methods
    folders = {"train": "rounds/r0/examples", "valid": "ingested/valid", "test": "ingested/test"}
    rows = {
        name: [row for row in tables.read(Path(f"data/{place}.parquet"), Example) if has_tests(row)]
        for name, place in folders.items()
    }
    return Setup(
        [{"from": "mutation"}], lambda: job.load(Path("models/pretrained"), compose.read(plan, sections), config.compute),
        rows["train"], rows["valid"], rows["test"], plan, sections, config.compute,
        (2e-4, 5e-4, 1e-3), (2e-4, 5e-4, 1e-3), config.evaluate.max_new_tokens, config.evaluate.pass_items,
    )  # fmt: skip


def fault_pairs(setup: Setup, examples: Sequence[Any]) -> Iterator[tuple[Any, Any]]:
    """Yield each example of at most `LONGEST` tokens that has a verified wrong program, with that pair."""
    from tasks.core.records import FaultPair
    from tasks.engine.encode import encoder
    from tasks.io import sandbox, tables
    from tasks.methods.objectives.fait.encode import encode_example
    from tasks.stages.faults.config import FaultsConfig
    from tasks.stages.faults.findings import Findings
    from tasks.stages.faults.search import PairSearch

    class Quiet:
        def track(self, items: Any, **_: Any) -> Any:
            return items

    _, tokenizer = setup.load()
    tools = encoder(tokenizer)

    def encoded(example: Any, pair: Any) -> Any:
        return encode_example(example, [pair] if pair else [], tools)

    examples = [e for e in examples if (sequence := encoded(e, None)) and len(sequence) <= LONGEST]
    config = FaultsConfig.model_validate({"sources": setup.sources})
    run: Any = Quiet()
    with tempfile.TemporaryDirectory() as folder:
        findings = Findings(Path(folder))
        PairSearch(config, encoded, sandbox.run, run, findings).find(lambda: examples, len(examples))
        pairs = {pair.example: pair for frame in findings.pairs() for pair in tables.records(frame, FaultPair)}
    for example in examples:
        if example.id in pairs:
            yield example, pairs[example.id]


def kept(
    setup: Setup, pairs: dict[str, list[Any]], label: str, arm: str, rate: float, seed: int, *, final: bool
) -> dict[str, Any]:
    """Return the result of a trial, from its file or from running it."""
    import kept as files

    basis = repr((ARMS.get(arm), setup.plan, setup.sections, [pair.id for _, pair in pairs["train"]]))
    label = f"{label}-{hashlib.sha256(basis.encode()).hexdigest()[:8]}"
    file = KEPT / f"{label}-{arm.replace(' ', '-')}-{rate:g}-{seed}{'-final' if final else ''}.json"
    return files.result(
        file,
        lambda: measured(setup, pairs, trained(setup, pairs["train"], arm, rate, seed), final),
        lambda row: f"marked {marked(row):.4f}, gap {gap(row):.4f}",
    )


def trained(setup: Setup, pairs: list[Any], arm: str, rate: float, seed: int) -> Any:
    """Train an arm, and return its model and tokenizer."""
    from tasks.engine import encode
    from tasks.engine.training import compose, train
    from tasks.engine.training.reference import with_reference

    model, tokenizer = setup.load()
    if arm == "base":
        return model, tokenizer
    objective = "dpo" if arm == "dpo" else "fait"
    plan = setup.plan.model_copy(update={"seed": seed, "objective": objective})
    sections = setup.sections | {"adamw": setup.sections["adamw"] | {"learning_rate": rate}, objective: ARMS[arm]}
    parts = compose.read(plan, sections)
    (examples, table), longest = zip(*pairs, strict=True), plan.pack_tokens
    encoded = encode.ExampleEncoder(tokenizer, longest, objective=parts.objective, rows_of_table=table)
    sequences = [sequence for example in examples for sequence in encoded.encoding(example).sequences]
    with tempfile.TemporaryDirectory() as work:
        if parts.objective.spec.reference:
            sequences = with_reference(model, sequences, {}, setup.compute, Path(work))
        outcome = train.train(model.train(), train.TrainData(sequences), parts, plan, setup.compute, Path(work))
    merged: Any = compose.merge(outcome.model, parts)
    vars(merged).pop("forward", None)  # the loss replaced it; measuring needs logits
    return merged, tokenizer


def measured(setup: Setup, pairs: dict[str, list[Any]], loaded: tuple[Any, Any], final: bool) -> dict[str, Any]:
    """Return the metrics by which a rate is chosen; if final, those of every function."""
    import torch

    from tasks.engine import device

    model, tokenizer = loaded
    model.eval()
    with torch.no_grad(), device.autocast(setup.compute):
        items = list(preferences(model, tokenizer, pairs["test" if final else "valid"]))
        result: dict[str, Any] = {"items": items}
        if final:
            result["passed"] = list(passes(setup, model, tokenizer))
    return result


def preferences(model: Any, tokenizer: Any, pairs: list[Any]) -> Iterator[dict[str, Any]]:
    """Yield for each pair: nats and number of the right program's differing tokens, and p(right) - p(wrong)."""
    from tasks.engine.encode import encoder
    from tasks.engine.forward import observe, use_packed_attention
    from tasks.engine.packing import by_budget, collate
    from tasks.methods.objectives.fait.column import CHAR, MARKS
    from tasks.methods.objectives.fait.config import SPEC
    from tasks.methods.objectives.fait.encode import encode_example
    from tasks.methods.objectives.fait.method import has, marked_mean

    use_packed_attention(model)
    examples = {example.id: example for example, _ in pairs}
    tools = encoder(tokenizer)
    sequences = [encode_example(example, [pair], tools) for example, pair in pairs]
    for pack in by_budget(sequences, 2048):
        nll, known = observe(model, collate([pack], columns=SPEC.columns), auxiliary=True)
        count, wrong = len(pack.sequences), known.auxiliary
        right = marked_mean(nll, known.columns[MARKS], known.segments, count)
        other = marked_mean(wrong.nll, wrong.columns[MARKS], wrong.owners[wrong.segments], count)
        marked = has(known.columns[MARKS], CHAR)
        for number, sequence in enumerate(pack.sequences):
            mine = marked & (known.segments == number)
            yield {
                "group": examples[sequence.id].group,
                "nats": float(nll[mine].sum()),
                "tokens": int(mine.sum()),
                "gap": math.exp(-float(right[number])) - math.exp(-float(other[number])),
            }


def passes(setup: Setup, model: Any, tokenizer: Any) -> Iterator[dict[str, Any]]:
    """Yield for each held-out function 1 if the greedy answer passes, else 0."""
    from tasks.core.text.programs import program
    from tasks.engine.inference import generation
    from tasks.io import sandbox

    tasks = setup.test[: setup.solved]
    answers = generation.write(
        model, [task.prompt for task in tasks], tokenizer, max_new_tokens=setup.max_new_tokens, batch_size=16
    )
    cases = (sandbox.Case(program(text), task.tests) for task, text in zip(tasks, answers, strict=True))
    for task, verdict in zip(tasks, sandbox.run(cases), strict=True):
        yield {"group": task.group, "passed": float(verdict.kind == "passed")}


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    from side_by_side import run_main

    run_main(__file__)
