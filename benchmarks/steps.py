"""CPU time and memory of a training step of each composition: `python benchmarks/steps.py params/compare/steps.yaml`.

Needs a workspace whose `fetch` and `ingest` have run. The compositions take turns, each in a process of its own on one thread, with the
same model, packs and number of steps. The probe of a method, such as ADEPT's for choosing layers, is one pack of the workspace's
general text; copied layers are named. Printed: CPU time per step as a multiple of the first composition's, paired by round, and peak
memory above the loaded model; a row `inference` is the forward pass alone. Linux only, as the kernel must reset the peak after loading.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
BASE, EXAMPLES = Path("models/base"), Path("data/rounds/r0/examples.parquet")
DOCUMENTS = Path("data/ingested/train_documents.parquet")
INFERENCE = "inference"


def main() -> None:
    """Run all compositions in turn and print the results."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("recipe", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--pack-tokens", type=int, default=512)
    parser.add_argument("--only", help=argparse.SUPPRESS)
    options = parser.parse_args()
    sys.path.insert(0, str(ROOT))
    if options.only:
        print(json.dumps(measure(options.only, options)))
        return
    from flows.experiments import recipes

    _, recipe = recipes.read([str(options.recipe)])
    by_composition: dict[str, list[dict[str, float]]] = {name: [] for name in (*recipe.compositions, INFERENCE)}
    for number in range(options.rounds):
        for name in by_composition if number % 2 == 0 else reversed(by_composition):
            by_composition[name].append(run(name))
            print(f"round {number + 1}, {name}: {by_composition[name][-1]}", flush=True)
    report(by_composition)


def run(name: str) -> dict[str, float]:
    """Run one composition in a process of its own."""
    env = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, __file__, *sys.argv[1:], "--only", name]
    done = subprocess.run(command, env=env, stdout=subprocess.PIPE, text=True, check=True)
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return result


def report(by_composition: dict[str, list[dict[str, float]]]) -> None:
    """Print a line for each composition: ratios of time with their range, and memory."""
    first = next(iter(by_composition.values()))
    print(f"\n{'':<24} {'time a step':>24} {'peak MB over model':>20} {'trains':>12}")
    for name, rows in by_composition.items():
        ratios = sorted(row["cpu_s"] / base["cpu_s"] for row, base in zip(rows, first, strict=True))
        times = f"{statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})"
        memory = statistics.median(row["peak_mb"] for row in rows)
        print(f"{name:<24} {times:>24} {memory:>20,.0f} {int(rows[0]['trainable']):>12,}")


def measure(name: str, options: argparse.Namespace) -> dict[str, float]:
    """Return CPU seconds per step without the first, a warm-up, and peak memory above the loaded model."""
    import torch

    from flows.experiments import recipes, trials
    from flows.experiments.recipes import Trial
    from tasks.core.compute import Compute
    from tasks.core.records import Example
    from tasks.engine import encode
    from tasks.engine.training import compose, job, train
    from tasks.io import tables
    from tasks.io.system.process import quiet
    from tasks.stages.tune.config import TuneConfig

    quiet()
    torch.set_num_threads(1)
    _, recipe = recipes.read([str(options.recipe)])
    composition = next(iter(recipe.compositions)) if name == INFERENCE else name
    sections = trials.sections_of(recipe, Trial(composition, 1e-6, 0, False))
    changes = {"pack_tokens": options.pack_tokens, "max_tokens": 10**9, "epochs": 1, "accumulation": 1, "warmup": 0.0}
    plan = TuneConfig.model_validate(sections["tune"]).model_copy(update=changes | {"save_every": 0})
    compute = Compute.model_validate(sections["compute"] | {"threads": 1})
    parts = compose.read(plan, sections["methods"])
    model, tokenizer = job.load(BASE, parts, compute)
    rows = tables.read(EXAMPLES, Example)
    known = [s for s in encode.examples(rows, tokenizer, options.pack_tokens) if s is not None and s.num_trained]
    sequences = encode.take(known, (options.steps + 1) * options.pack_tokens)
    probe = general(tokenizer, options.pack_tokens)
    before = forget_peak()
    if name == INFERENCE:
        marks = read_only(model, sequences, compute, options)
        return {"cpu_s": per_step(marks), "peak_mb": peak() - before, "trainable": 0}
    marks = [time.process_time()]
    with tempfile.TemporaryDirectory() as work:
        outcome = train.train(
            model.train(),
            train.TrainData(sequences, probe=probe),
            parts,
            plan,
            compute,
            Path(work),
            on_step=lambda _: marks.append(time.process_time()),
        )
    if copied := outcome.attached.expansion.get("originals"):
        print(f"{name}: copies layers {', '.join(map(str, copied))}", file=sys.stderr)
    return {"cpu_s": per_step(marks), "peak_mb": peak() - before, "trainable": outcome.trainable}


def general(tokenizer: Any, pack_tokens: int) -> list[Any]:
    """Return about a pack of the workspace's general text: ADEPT reads it once for every layer."""
    from tasks.core.records import Document
    from tasks.engine import encode
    from tasks.io import tables

    rows = [row for row in tables.read(DOCUMENTS, Document) if row.domain == "general"]
    return encode.take(encode.documents(rows, tokenizer, pack_tokens), pack_tokens)


def read_only(model: Any, sequences: list[Any], compute: Any, options: argparse.Namespace) -> list[float]:
    """Return the CPU time after the forward pass of each pack."""
    import torch

    from tasks.engine import device
    from tasks.engine.forward import token_losses, use_packed_attention
    from tasks.engine.packing import collate, fill

    use_packed_attention(model)
    marks = [time.process_time()]
    with torch.no_grad(), device.autocast(compute):
        for pack in fill(sequences, options.pack_tokens):
            token_losses(model, collate([pack]))
            marks.append(time.process_time())
    return marks


def per_step(marks: list[float]) -> float:
    """Return the seconds per step, without the first."""
    return (marks[-1] - marks[1]) / (len(marks) - 2)


def forget_peak() -> float:
    """Reset the kernel's record of peak memory; return the memory held now, in MB."""
    Path("/proc/self/clear_refs").write_text("5")
    return peak()


def peak() -> float:
    """Return the peak memory since the last reset, in MB."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


if __name__ == "__main__":
    main()
