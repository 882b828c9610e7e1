"""Share of the gain of tuning that proxy-tuning transfers from a small to a large model: `python benchmarks/proxy.py 0 1 2`.

After `ratchet use lab` and `ratchet run ingest`. The large model has the lab's shape, the small one half its width and half its
layers. Both are pretrained in scratch workspaces, at the rates in `RATES`, the large one on twice as many tokens: it has to be the better model, or steering would replace it by the small one. Both are tuned
with each seed; proxy-tuning then steers the large untuned model by the small pair. Printed: the five losses on the domain's test set,
and the gain of proxy-tuning as a share of the large model's own gain, with the 95 % interval over source modules.
"""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import scratch

SMALL = {"hidden": 64, "layers": 4, "mlp": 172}
RATES = {"large": 1e-3, "small": 3e-3}
"""Learning rates of pretraining. Of 1e-3 and 3e-3 each is the one of the lower validation loss, which was looked at once, on 2026-11-25;
nothing here chooses it anew."""
RESAMPLES = 2000
MODELS = {
    "base": {"group": "reference", "path": "models/pretrained", "base": "models/pretrained"},
    "r0": {"group": "rounds", "path": "models/tuned/r0", "base": "models/pretrained"},
}


def main(seeds: list[int]) -> None:
    """Print one line for each seed."""
    print(
        f"{'seed':>4} {'large':>8} {'tuned':>8} {'small':>8} {'tuned':>8} {'proxy':>8}   share of the gain [95 % interval]"
    )
    with tempfile.TemporaryDirectory() as folder:
        large, small = Path(folder) / "large", Path(folder) / "small"
        params = pretrain(large, {}, RATES["large"], tokens=2_400_000)
        half = pretrain(small, SMALL, RATES["small"], tokens=1_200_000)
        for seed in seeds:
            for workspace, config in ((large, params), (small, half)):
                config["tune"]["seed"] = seed
                scratch.run(workspace, config, "tune", "r0")
            columns = [
                measure(where, config, name) for where, config in ((large, params), (small, half)) for name in MODELS
            ]
            steered = measure(small, steering(half, large / "models/pretrained"), "r0")
            print(f"{seed:>4} {line([*columns, steered])}", flush=True)


def pretrain(workspace: Path, shape: dict[str, int], rate: float, tokens: int) -> dict[str, Any]:
    """Pretrain a model of the lab's shape, changed by `shape`, in a scratch workspace.

    Return the settings to tune it with.
    """
    params = scratch.settings() | {"models": MODELS}
    model = {"fetch": {"model": params["fetch"]["model"] | shape, "embedder": None}}
    learning = {
        "pretrain": params["pretrain"] | {"max_tokens": tokens},
        "methods": params["methods"] | {"adamw": {"learning_rate": rate}},
    }
    scratch.link(workspace)
    scratch.run(workspace, params | model, "fetch")
    scratch.run(workspace, params | model | learning, "pretrain")
    return params | model


def steering(params: dict[str, Any], large: Path) -> dict[str, Any]:
    """Return settings under which evaluation steers the large model."""
    from tasks.io import pinned

    decoder = {"alpha": 1.0, "steers": str(large), "digest": pinned.digest(large)}
    return params | {
        "evaluate": params["evaluate"] | {"decoder": "proxy_tuning"},
        "methods": params["methods"] | {"proxy_tuning": decoder},
    }


def measure(workspace: Path, params: dict[str, Any], name: str) -> Any:
    """Measure a model and return its test items."""
    scratch.run(workspace, params, "evaluate", name)
    return scratch.items(workspace / f"data/results/{MODELS[name]['group']}/{name}.parquet", "domain")


def line(frames: list[Any]) -> str:
    """Format the losses, and the share with its interval over resampled groups, the same for all models."""
    groups = frames[0]["group"].unique(maintain_order=True).to_list()
    nats_MG = np.array([[f.filter(f["group"] == group)["value"].sum() for group in groups] for f in frames])
    tokens_G = np.array([frames[0].filter(frames[0]["group"] == group)["tokens"].sum() for group in groups])
    losses = nats_MG.sum(axis=1) / tokens_G.sum()
    drawn_RG = np.random.default_rng(0).integers(len(groups), size=(RESAMPLES, len(groups)))
    low, high = np.quantile([share(nats_MG[:, drawn].sum(axis=1)) for drawn in drawn_RG], [0.025, 0.975])
    shown = " ".join(f"{loss:8.4f}" for loss in losses)
    return f"{shown}   {share(losses):.0%} [{low:.0%}, {high:.0%}]"


def share(losses: Any) -> float:
    """Return the gain of proxy-tuning over the large model, as a share of the gain of its own tuning."""
    large, tuned, _, _, proxy = losses
    return float((large - proxy) / (large - tuned))


if __name__ == "__main__":
    main(scratch.seeds(__doc__))
