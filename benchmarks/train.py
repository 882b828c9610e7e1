"""Training speed, compared with TRL's SFTTrainer with packing: `python benchmarks/train.py [--rounds 3] [--precision fp32]`.

Needs `pip install -e ".[benchmarks]"` and a workspace whose `fetch` and `ingest` have run. The two take turns, each in a process
of its own on one thread, on the same model, examples, precision and loss mask: full fine-tuning by AdamW, every step over all
packs, so that equal arithmetic gives equal loss curves in any order of packs. Printed: the ratio of CPU time per token; the largest
difference of the two loss curves; peak memory; and speed as a share of what this machine's matrix products alone would allow. In fp32
the exit code is 1 if the curves differ by more than rounding: the two would not have done the same work.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
BASE, EXAMPLES = Path("models/base"), Path("data/rounds/r0/examples.parquet")
PACK_TOKENS, STEPS, RATE = 1024, 3, 1e-5
APART = {"fp32": 1e-3, "bf16": 1e-2}
"""Largest difference between equal loss curves, in nats per token."""


def main() -> None:
    """Run both sides in turn and print the results."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="fp32")
    parser.add_argument("--examples", type=int, default=24)
    parser.add_argument("--side", choices=sorted(SIDES), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        print(json.dumps(measure(SIDES[options.side], options.precision, options.examples)))
        return
    by_side: dict[str, list[dict[str, Any]]] = {side: [] for side in SIDES}
    for number in range(options.rounds):
        for side in SIDES if number % 2 == 0 else reversed(SIDES):
            by_side[side].append(run(side, options))
            print(f"round {number + 1}, {side}: {rate(by_side[side][-1]):.1f} tokens per CPU second", flush=True)
    apart = report(by_side, options.precision)
    most = APART[options.precision]
    if not apart <= most:  # NaN is no agreement either
        sys.exit(f"The loss curves are {apart:.5f} apart, more than {most:g}: the two did not do the same work.")


def run(side: str, options: argparse.Namespace) -> dict[str, Any]:
    """Run one side in a process of its own."""
    command = [sys.executable, __file__, "--side", side, "--precision", options.precision]
    done = subprocess.run(
        [*command, "--examples", str(options.examples)],
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def rate(result: dict[str, Any]) -> float:
    """Return the tokens per CPU second, without padding."""
    return float(result["tokens"] / result["cpu_s"])


def report(by_side: dict[str, list[dict[str, Any]]], precision: str) -> float:
    """Print ratios, loss curves, memory and the share of the roofline; return the largest difference of the curves."""
    ours, trl = by_side["ratchet"], by_side["trl"]
    ratios = sorted(rate(a) / rate(b) for a, b in zip(ours, trl, strict=True))
    curves = [[row["losses"] for row in rows] for rows in (ours, trl)]
    apart = float(np.abs(np.subtract(*curves)).max())
    share = statistics.median(rate(a) * a["flop_per_token"] / a["gemm_flops"] for a in ours)
    memory = [max(row["peak_mb"] for row in rows) for rows in (ours, trl)]
    print(
        f"\n{precision}: {statistics.median(ratios):.2f} × TRL ({ratios[0]:.2f} to {ratios[-1]:.2f}), by CPU time a token"
    )
    print(f"loss curves: {[round(loss, 4) for loss in ours[0]['losses']]}, at most {apart:.5f} apart from TRL's")
    print(f"peak memory: {memory[0]:.0f} MB, TRL {memory[1]:.0f} MB")
    print(f"share of the GEMM roofline: {share:.0%}")
    return apart


def measure(train: Callable[..., list[float]], precision: str, count: int) -> dict[str, Any]:
    """Train and return CPU seconds, losses, tokens and peak memory."""
    import torch

    from tasks.core.records import Example
    from tasks.engine import encode
    from tasks.io import tables
    from tasks.io.system.process import quiet
    from tasks.io.weights import checkpoints

    quiet()
    torch.set_num_threads(1)
    gemm_flops = products(torch.float32 if precision == "fp32" else torch.bfloat16)
    model, tokenizer = checkpoints.load(BASE)
    rows = tables.read(EXAMPLES, Example)
    sequences = [s for s in encode.examples(rows, tokenizer, PACK_TOKENS) if s is not None and s.num_trained][:count]
    tokens = STEPS * sum(map(len, sequences))
    trained = STEPS * sum(s.num_trained for s in sequences)
    head = model.get_output_embeddings().weight.numel()
    body = sum(p.numel() for layer in model.get_decoder().layers for p in layer.parameters())
    start = time.process_time()
    with tempfile.TemporaryDirectory() as work:
        losses = train(model.train(), sequences, precision, Path(work), tokenizer)
    return {
        "cpu_s": time.process_time() - start,
        "tokens": tokens,
        "losses": losses,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        # Forward and backward: two products of each weight with each token forth, four back; the head on trained tokens.
        "flop_per_token": 6 * (body + head * trained / tokens),
        "gemm_flops": gemm_flops,
    }


def products(dtype: Any, size: int = 1024, repeats: int = 20) -> float:
    """Return the floating-point operations per second of a matrix product."""
    import torch

    a, b = (torch.randn(size, size).to(dtype) for _ in range(2))
    a @ b
    start = time.process_time()
    for _ in range(repeats):
        a @ b
    return 2 * size**3 * repeats / (time.process_time() - start)


def with_ratchet(model: Any, sequences: list[Any], precision: str, work: Path, tokenizer: Any) -> list[float]:
    """Train by our engine and return the loss of each step."""
    from tasks.core.compute import Compute
    from tasks.core.training import Training
    from tasks.engine.packing import fill
    from tasks.engine.training import compose, train

    plan = Training(
        adapter="none",
        pack_tokens=PACK_TOKENS,
        accumulation=len(fill(sequences, PACK_TOKENS)),
        epochs=STEPS,
        max_tokens=10**9,
        warmup=0.0,
        schedule="constant_with_warmup",
        save_every=0,
    )
    sections = {"none": {}, "all": {}, "adamw": {"learning_rate": RATE}, "cross_entropy": {}}
    parts = compose.read(plan, sections)
    compute = Compute(threads=1, precision=precision)
    outcome = train.train(model, train.TrainData(sequences), parts, plan, compute, work)
    return [loss for _, _, loss in outcome.losses]


def with_trl(model: Any, sequences: list[Any], precision: str, work: Path, tokenizer: Any) -> list[float]:
    """Train by TRL's trainer and return the loss of each step."""
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    model.config.use_cache = False  # else attention crosses from one packed example into the next
    rows = [{"input_ids": s.ids, "completion_mask": [int(w > 0) for w in s.weights]} for s in sequences]
    config = SFTConfig(
        output_dir=str(work),
        packing=True,
        max_length=PACK_TOKENS,
        per_device_train_batch_size=1,
        gradient_accumulation_steps=10**3,  # a step ends with the epoch
        num_train_epochs=STEPS,
        learning_rate=RATE,
        lr_scheduler_type="constant",
        max_grad_norm=1.0,
        weight_decay=0.0,
        completion_only_loss=True,
        gradient_checkpointing=False,
        bf16=precision == "bf16",
        use_cpu=True,
        logging_steps=1,
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
    )
    trainer = SFTTrainer(model=model, args=config, train_dataset=Dataset.from_list(rows), processing_class=tokenizer)
    trainer.train()
    return [row["loss"] for row in trainer.state.log_history if "loss" in row]


SIDES: dict[str, Callable[..., list[float]]] = {"ratchet": with_ratchet, "trl": with_trl}

if __name__ == "__main__":
    main()
