"""Stage `tune`: train one composition of methods on a round's examples.

reads   models/base/, data/rounds/<round>/examples.parquet, data/ingested/valid.parquet
writes  models/tuned/<round>/ (the adapter or the whole model, ratchet.json, training.json)
"""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from tasks import methods
from tasks.core.records import Example
from tasks.core.stage import Run
from tasks.engine import device, encode, scoring, train
from tasks.engine.encode import Encoded
from tasks.io import checkpoints, tables
from tasks.stages.tune.params import Settings, TuneParams


def main(inputs: dict[str, Path], outputs: dict[str, Path], settings: Settings, run: Run) -> None:
    """Train, and write the model with its training's course and validation loss before and after."""
    tune, compute = settings.tune, settings.compute
    device.use(compute)
    model, tokenizer = checkpoints.load(inputs["base"], device=compute.device)
    sequences = _encode(tables.read(inputs["examples"], Example), tokenizer, tune, run)
    valid = _take(_encode(tables.read(inputs["valid"], Example), tokenizer, tune, run), tune.valid_tokens)
    if not sequences:
        raise ValueError(
            f"{inputs['examples']} holds no example of at most tune.pack_tokens={tune.pack_tokens} tokens."
        )

    before = _validate(model, valid, compute)
    outcome = train.train(
        model.train(), sequences, _composition(settings), _plan(tune), compute, run.work, _Progress(run)
    )
    after = _validate(_plain(outcome.model).eval(), valid, compute)
    run.note(trainable=outcome.trainable, trained_tokens=outcome.tokens, precision=device.precision(compute))
    if before is None or after is None:
        run.say(f"tune {run.item}: {outcome.tokens:,} tokens trained, nothing to validate on")
    else:
        run.log(valid_loss_before=before, valid_loss=after)
        run.say(
            f"tune {run.item}: validation loss {before:.4f} → {after:.4f} nats/token after {outcome.tokens:,} tokens"
        )

    outputs["model"].mkdir(parents=True)
    _save(outcome.model, tokenizer, outputs["model"])
    course = {
        "composition": {family: getattr(tune, family) for family in ("adapter", "selector", "optimizer", "objective")},
        "loss": [[step, tokens, round(loss, 6)] for step, tokens, loss in outcome.losses],
        "validation": [
            [tokens, round(loss, 6)] for tokens, loss in ((0, before), (outcome.tokens, after)) if loss is not None
        ],
        "tokens": outcome.tokens,
        "trainable": outcome.trainable,
        "parameters": outcome.parameters,
    }
    (outputs["model"] / "training.json").write_text(json.dumps(course, indent=1) + "\n", encoding="utf-8")
    checkpoints.write_card(
        outputs["model"],
        method=course["composition"],
        settings=settings.model_dump(mode="json"),
        parent=checkpoints.read_card(inputs["base"]).get("weights"),
    )


class _Progress:
    """Reports every step to the run."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._bar: Iterator[int] | None = None

    def __call__(self, step: int, steps: int, loss: float, rate: float) -> None:
        if self._bar is None:
            self._bar = iter(self._run.track(range(step, steps + 1), total=steps - step + 1, unit="step"))
        next(self._bar, None)
        self._run.log(step, loss=loss, learning_rate=rate)


def _encode(rows: list[Example], tokenizer: Any, tune: TuneParams, run: Run) -> list[Encoded]:
    encoded = list(encode.examples(rows, tokenizer, tune.pack_tokens))
    if left_out := sum(row is None for row in encoded):
        run.say(
            f"tune {run.item}: {left_out} of {len(rows)} examples are longer than a pack, or hold a control token, and were left out"
        )
    return [row for row in encoded if row is not None and row.num_trained]


def _take(sequences: Iterable[Encoded], tokens: int) -> list[Encoded]:
    """The first sequences that together have about `tokens` tokens."""
    taken: list[Encoded] = []
    for sequence in sequences:
        if tokens <= 0:
            break
        taken.append(sequence)
        tokens -= len(sequence)
    return taken


def _validate(model: Any, valid: list[Encoded], compute: Any) -> float | None:
    """Nats per token of the validation examples, or none without any."""
    with device.autocast(compute):
        return scoring.mean(scoring.losses(model, valid)) if valid else None


def _composition(settings: Settings) -> train.Composition:
    def part(family: str, name: str) -> train.Part:
        module = methods.load(family, name)
        return train.Part(module, module.METHOD.params.model_validate(settings.methods[name]))

    tune = settings.tune
    return train.Composition(
        adapter=part("adapters", tune.adapter),
        selector=part("selectors", tune.selector),
        optimizer=part("optimizers", tune.optimizer),
        objective=part("objectives", tune.objective),
    )


def _plan(tune: TuneParams) -> train.Plan:
    return train.Plan(
        pack_tokens=tune.pack_tokens,
        accumulation=tune.accumulation,
        max_tokens=tune.max_tokens,
        epochs=tune.epochs,
        warmup=tune.warmup,
        schedule=tune.schedule,
        clip=tune.clip,
        save_every=tune.save_every,
        workers=tune.workers,
        seed=tune.seed,
    )


def _plain(model: Any) -> Any:
    """The transformers model inside an adapter's wrapper."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def _save(model: Any, tokenizer: Any, folder: Path) -> None:
    """An adapter in its own format, or the whole model with its tokenizer."""
    if hasattr(model, "get_base_model"):
        for config in model.peft_config.values():
            config.base_model_name_or_path = "models/base"
        model.save_pretrained(folder, safe_serialization=True, save_embedding_layers=False)
        (folder / "README.md").unlink(missing_ok=True)  # peft's model card is an empty form
    else:
        model.config.use_cache = True  # training switched it off
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
