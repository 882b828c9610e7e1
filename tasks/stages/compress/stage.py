"""Stage `compress`: store a round's model in fewer bytes, and measure the loss before and after.

reads   models/tuned/<compress.round>/, models/pretrained/, data/ingested/valid.parquet, data/selection.json
writes  models/compressed/ (the method's files, compressed.json, ratchet.json), data/metrics/compression.json

`tasks.io.weights.models.load` opens the result as it opens any model.
"""

import json
import math
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from tasks import methods
from tasks.core.config import Config
from tasks.core.records import Example
from tasks.core.sequences import Encoded
from tasks.core.stage import Run
from tasks.io import tables
from tasks.io.weights import checkpoints, compressed, models, processors
from tasks.methods.compressors import DeltaCompressor, WeightCompressor
from tasks.stages.compress import sparsity
from tasks.stages.compress.config import StageConfig

Facts = dict[str, Any]
"""Contents of compression.json."""


class Scored(NamedTuple):
    """Loss and speed of a model on the validation examples."""

    loss: float
    """Nats per token."""
    tokens_per_s: float
    """Tokens scored per second, prompts included. Logged to MLflow only: outputs hold no times."""


Measure = Callable[[Path], Scored]


def main(inputs: dict[str, Path], outputs: dict[str, Path], config: StageConfig, run: Run) -> None:
    """Compress, and write size and validation loss before and after; with `none`, record that nothing is compressed."""
    compress, output = config.compress, outputs["model"]
    tuned = _tuned(inputs, compress.round)
    method = methods.load("compressors", compress.compressor)
    method_config = methods.spec("compressors", compress.compressor).config.model_validate(
        config.methods[compress.compressor]
    )
    start = time.perf_counter()
    match method:
        case DeltaCompressor():
            facts, speed = _store_delta(method, method_config, tuned, inputs, output, config, run)
        case WeightCompressor():
            facts, speed = _store_weights(method, method_config, tuned, inputs, output, config)
        case _:
            output.mkdir()
            compressed.write_note(output, compress.compressor, {})
            facts, speed = {}, {}
    _write_card(tuned, output, config)
    metrics = {"round": tuned.name, "compressor": compress.compressor} | facts
    outputs["metrics"].write_text(
        json.dumps(metrics, indent=1, sort_keys=True, allow_nan=False) + "\n", encoding="utf-8"
    )
    if facts:
        _report(tuned.name, facts, speed, config, time.perf_counter() - start, run)
    if facts and (grid := checkpoints.read_card(inputs["base"]).get("grid")):
        run.say(
            f"compress {tuned.name}: the base was dequantised from {grid}, so rounding it to an equally coarse grid costs "
            "almost nothing. This loss does not hold for weights that were never quantised."
        )


def _tuned(inputs: dict[str, Path], name: str) -> Path:
    """Return the folder of the model to compress: of the named round, or of the one that stage `select` chose."""
    if name == "best":
        name = json.loads(inputs["selection"].read_text(encoding="utf-8"))["round"]
    tuned = inputs["tuned"] / name
    if not tuned.is_dir():
        rounds = sorted(path.name for path in inputs["tuned"].iterdir())
        raise ValueError(f"compress.round: there is no {tuned}. There are: best, {', '.join(rounds)}.")
    return tuned


def _store_delta(
    method: DeltaCompressor,
    method_config: Config,
    tuned: Path,
    inputs: dict[str, Path],
    output: Path,
    config: StageConfig,
    run: Run,
) -> tuple[Facts, dict[str, float]]:
    """Store the difference with the candidate settings of the lowest validation loss; the first of those that tie.

    Returns the contents of compression.json, and the tokens scored per second before and after. Raises ValueError if no candidate has
    a finite loss.
    """
    measure = _measure(inputs, config)
    before = _finite(measure(tuned), tuned)
    delta = compressed.read_delta(tuned, inputs["base"])
    tried: list[Facts] = []
    best: Facts = {}
    kept: dict[str, float] = {}
    speed = {"before": before.tokens_per_s}
    for candidate in run.track(method.candidates(method_config), unit="candidate"):
        quantised = method.quantise(delta, candidate)
        folder = run.work / "candidate"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        compressed.copy_facts(tuned, folder)
        compressed.write_delta(folder, method.encode(quantised))
        compressed.write_note(folder, config.compress.compressor, candidate.model_dump(mode="json"))
        _write_card(tuned, folder, config)
        scored = measure(folder)
        result = {
            "settings": candidate.model_dump(mode="json"),
            "loss": round(scored.loss, 6) if math.isfinite(scored.loss) else None,
            "bytes": _bytes(folder),
        }
        tried.append(result)
        if result["loss"] is not None and result["loss"] < best.get("loss", math.inf):
            best = result
            shutil.rmtree(output, ignore_errors=True)
            shutil.move(folder, output)
            kept = sparsity.nonzero_shares(quantised)
            speed["after"] = scored.tokens_per_s
    if not best:
        raise ValueError(
            f"compressor {config.compress.compressor}: none of the {len(tried)} settings that were tried leaves a finite validation loss. Try others."
        )
    facts = {
        "settings": best["settings"],
        "bytes": {"before": _bytes(tuned), "after": best["bytes"]},
        "loss": {"before": round(before.loss, 6), "after": best["loss"]},
        "kept": kept,
        "tried": tried,
    }
    return facts, speed


def _store_weights(
    method: WeightCompressor,
    method_config: Config,
    tuned: Path,
    inputs: dict[str, Path],
    output: Path,
    config: StageConfig,
) -> tuple[Facts, dict[str, float]]:
    """Store the full model, with its adapter merged. Returns the same as `_store_delta`."""
    measure = _measure(inputs, config)
    before = _finite(measure(tuned), tuned)
    model, tokenizer = checkpoints.load(tuned, inputs["base"], device=config.compute.device)
    _check_plain(model, tuned)
    output.mkdir()
    method.write(model, tokenizer, output, method_config)
    processors.copy(inputs["base"], output)
    del model
    chosen = method_config.model_dump(mode="json")
    compressed.write_note(output, config.compress.compressor, chosen)
    uncompressed = inputs["base"] if checkpoints.is_adapter(tuned) else tuned
    after = _finite(measure(output), output)
    facts = {
        "settings": chosen,
        "bytes": {"before": _bytes(uncompressed), "after": _bytes(output)},
        "loss": {"before": round(before.loss, 6), "after": round(after.loss, 6)},
    }
    return facts, {"before": before.tokens_per_s, "after": after.tokens_per_s}


def _measure(inputs: dict[str, Path], config: StageConfig) -> Measure:
    """Return a function that measures validation loss and speed of the model in a folder.

    The function raises ValueError if a model's tokenizer gives other tokens than the first model's, if no example is short enough to
    measure on, and if an example is longer than the model's context.
    """
    from tasks.engine import context, device, encode  # torch: not needed where nothing is compressed
    from tasks.engine.inference import scoring  # torch: not needed where nothing is compressed

    compress, compute = config.compress, config.compute
    device.use(compute)
    examples = tables.read(inputs["valid"], Example)
    expected: list[Encoded] = []

    def score(path: Path) -> Scored:
        model, tokenizer = models.load(path, inputs["base"], **device.placement(compute))
        rows = (row for row in encode.examples(examples, tokenizer, compress.max_tokens) if row is not None)
        sequences = encode.take(rows, compress.valid_tokens)
        if not sequences:
            raise ValueError(
                f"{inputs['valid']} holds no example of at most compress.max_tokens={compress.max_tokens} tokens to measure the loss on. Set "
                "more tokens, or compressor: none."
            )
        if expected and sequences != expected:
            raise ValueError(
                f"compressor {compress.compressor} changed the tokenizer: it cuts validation examples into other tokens."
            )
        context.check(model, sequences, "compress.max_tokens")
        expected[:] = sequences
        start = time.perf_counter()
        loss = scoring.mean(scoring.losses(model, sequences))
        return Scored(loss, sum(map(len, sequences)) / (time.perf_counter() - start))

    return score


def _finite(scored: Scored, path: Path) -> Scored:
    """Return the measurement unchanged. Raises ValueError if its loss is not finite."""
    if not math.isfinite(scored.loss):
        raise ValueError(
            f"{path} has a validation loss of {scored.loss}: such a model is of no use, compressed or not."
        )
    return scored


def _check_plain(model: Any, tuned: Path) -> None:
    """Raise ValueError if the names of a model's parameters differ from those that its class has."""
    import torch

    with torch.device("meta"):
        bare = type(model)(model.config)
    if additional := sorted(
        {name for name, _ in model.named_parameters()} ^ {name for name, _ in bare.named_parameters()}
    ):
        raise ValueError(
            f"{tuned} cannot be merged into plain weights ({additional[0]}), so they cannot be compressed as a whole. "
            "Compress its difference, or train with `base: none` and an adapter that merges."
        )


def _write_card(tuned: Path, output: Path, config: StageConfig) -> None:
    """Write `ratchet.json`: the tuned model's card, which names its parent, and the settings of the compression."""
    # The card's entry `bank` is left out, since the compressed model has no bank.
    card = {name: fact for name, fact in checkpoints.read_card(tuned).items() if name != "bank"}
    added = {
        "method": card.get("method", {}) | {"compressor": config.compress.compressor},
        "compressed": card.get("weights"),
        "compress": config.model_dump(mode="json"),
    }
    checkpoints.write_card(output, **card | added)


def _bytes(folder: Path) -> int:
    """Return the size of a folder's weights in bytes."""
    return sum(file.stat().st_size for file in checkpoints.weights(folder))


def _report(name: str, facts: Facts, speed: dict[str, float], config: StageConfig, seconds: float, run: Run) -> None:
    size, loss = facts["bytes"], facts["loss"]
    run.log(
        bytes_before=size["before"],
        bytes_after=size["after"],
        validation_loss_before=loss["before"],
        validation_loss=loss["after"],
        tokens_per_s_before=speed["before"],
        tokens_per_s=speed["after"],
        compress_seconds=seconds,
    )
    shares = "".join(f", {share:.1%} of {kind} kept" for kind, share in facts.get("kept", {}).items())
    run.say(
        f"compress {name}: {config.compress.compressor}, {size['before']:,} → {size['after']:,} bytes"
        f" ({size['before'] / size['after']:.1f} times smaller), validation loss {loss['before']:.4f} → "
        f"{loss['after']:.4f} nats/token{shares}"
    )
