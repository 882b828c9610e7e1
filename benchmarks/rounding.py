"""Training in one bit against rounding to one bit afterwards, at equal bytes: `python benchmarks/rounding.py 0 1 2 3 4`.

After `ratchet use lab` and `ratchet run tune@r0`: the lab's model is trained from random weights in full precision. For each seed,
round r0 is tuned in a scratch workspace by `binadapter` in one bit and in 32, both at rank 32, and by 32 bits at rank 1. Compressor
`levels` stores the first two in one bit of a number: what was trained so without loss, the other rounded. The learning rate of each arm is
the best of `RATES` on the validation loss of what is stored, with the first seed. Printed: the stored bytes, and the paired difference
of the test loss to that of the arm trained in one bit, with the 95 % interval over source modules. Trainings are kept in
.ratchet/rounding, so that a second call resumes, and the rows in .ratchet/compare/rounding for docs/ledger.py.
"""

import copy
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl
import scratch

from flows.experiments import results_table
from tasks.io import provenance
from tasks.io.system import files

KEPT = Path(".ratchet/rounding")
RATES = (3e-4, 1e-3, 3e-3, 1e-2)
PATHS = {"r0": "models/tuned/r0", "small": "models/compressed"}


class Arm(NamedTuple):
    """One way to an adapter on disk."""

    rank: int
    bits: int
    """In training."""
    stored: str
    """The name of the measured model: the one that `levels` stored in one bit, or the tuned one."""


ARMS = {
    "one bit": Arm(32, 1, "small"),
    "rounded afterwards": Arm(32, 32, "small"),
    "not rounded": Arm(32, 32, "r0"),
    "rank 1": Arm(1, 32, "r0"),
}


class Stored(NamedTuple):
    """An arm's adapter as it is stored."""

    valid: float
    """Loss of validation examples in nats per token."""
    bytes: int
    items: pl.DataFrame
    """The test items."""


def main(seeds: list[int]) -> None:
    """Print one line for each seed and arm, and keep the rows for docs/ledger.py."""
    rates = {
        title: min(RATES, key=lambda rate, arm=arm: store(arm, rate, seeds[0]).valid) for title, arm in ARMS.items()
    }
    rows: list[dict[str, Any]] = []
    print(f"{'seed':>4}  {'arm':<20} {'rate':>6} {'bytes':>9}   loss − one bit [95 % interval]")
    for seed in seeds:
        arms = {title: store(arm, rates[title], seed) for title, arm in ARMS.items()}
        first = arms["one bit"].items
        for title, stored in arms.items():
            gap = scratch.difference(first, stored.items) if title != "one bit" else ""
            rows.append({"composition": title, "seed": seed, "loss": scratch.loss(stored.items), "bytes": stored.bytes})
            print(f"{seed:>4}  {title:<20} {rates[title]:>6g} {stored.bytes:>9,}   {gap}", flush=True)
    results_table.save_figures("rounding", rows)


def store(arm: Arm, rate: float, seed: int) -> Stored:
    """Return one arm in its stored form, from a training that is cached or run now."""
    folder = KEPT / provenance.digest(scratch.ROOT / "params.yaml")[:8] / f"{arm.rank}-{arm.bits}-{rate:g}-{seed}"
    if not folder.is_dir():
        train(arm, rate, seed, folder)
    figures = json.loads((folder / "figures.json").read_text(encoding="utf-8"))[arm.stored]
    items = scratch.items(folder / f"{arm.stored}.parquet", "domain")
    return Stored(figures["valid"], figures["bytes"], items)


def train(arm: Arm, rate: float, seed: int, folder: Path) -> None:
    """Train an adapter, store it by `levels`, and keep the figures and items of each way to store it that an arm has."""
    params = copy.deepcopy(scratch.settings())
    params |= {"rounds": {"r0": {}}, "turns": {}}
    params["tune"] |= {"adapter": "binadapter", "seed": seed}
    params["methods"]["binadapter"] = {"rank": arm.rank, "bits": arm.bits, "targets": "all-linear"}
    params["methods"]["adamw"] = {"learning_rate": rate}
    params["methods"]["levels"] = {"bits": 1}
    params["compress"] |= {"compressor": "levels", "round": "best"}
    params["models"] = {
        name: {"group": "rounds", "base": "models/pretrained", "path": path} for name, path in PATHS.items()
    }
    with tempfile.TemporaryDirectory() as name:
        workspace = Path(name)
        scratch.link(workspace, "models/base", "models/pretrained")
        scratch.run(workspace, params, "tune", "r0")
        scratch.run(workspace, params, "select")
        scratch.run(workspace, params, "compress")
        metrics = json.loads((workspace / "data/metrics/compression.json").read_text(encoding="utf-8"))
        sizes = {"r0": lora_bytes(workspace / PATHS["r0"]), "small": int(metrics["bytes"]["after"])}
        valid = {"r0": metrics["loss"]["before"], "small": metrics["loss"]["after"]}
        figures = {name: {"valid": valid[name], "bytes": sizes[name]} for name in PATHS}
        with files.atomic_path(folder) as made:
            made.mkdir()
            (made / "figures.json").write_text(json.dumps(figures), encoding="utf-8")
            for stored in {other.stored for other in ARMS.values() if other[:2] == arm[:2]}:
                scratch.run(workspace, params, "evaluate", stored)
                shutil.copy(workspace / f"data/results/rounds/{stored}.parquet", made)
    print(f"      rank {arm.rank}, {arm.bits} bits, rate {rate:g}, seed {seed}: {valid}", flush=True)


def lora_bytes(tuned: Path) -> int:
    """Return the bytes of the LoRA beside an adapter."""
    return (tuned / "adapter_model.safetensors").stat().st_size


if __name__ == "__main__":
    main(scratch.seeds(__doc__))
