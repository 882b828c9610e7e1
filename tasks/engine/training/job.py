"""The steps shared by all stages that train: load, measure, train, measure again, and write the model with the course of its training."""

import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from tasks.core.compute import Compute
from tasks.core.stage import Run
from tasks.core.training import Training
from tasks.core.weights.surgery import ALL_LINEAR
from tasks.engine import device
from tasks.engine.first_batch import describe
from tasks.engine.training import compose, store, train, validation
from tasks.engine.training.compose import Attached, Composition
from tasks.engine.training.reference import with_reference
from tasks.engine.training.telemetry import Telemetry
from tasks.engine.training.train import TrainData, TrainResult
from tasks.io import provenance
from tasks.io.weights import checkpoints, processors

Course = Mapping[str, list[tuple[int, float]]]
"""Validation set → (tokens so far, loss in nats per token)."""


def load(base: Path, parts: Composition, compute: Compute) -> tuple[Any, Any]:
    """Return the model to train, its frozen weights stored as the composition says, and its tokenizer.

    The model is on the device that computes, or in host memory if the optimizer streams its blocks from there.
    """
    device.use(compute)
    quantization = parts.base.method.quantization(parts.base.config)
    at = "cpu" if parts.optimizer.spec.streams else compute.device
    return checkpoints.load(base, device=at, quantization=quantization)


def execute(
    model: Any,
    tokenizer: Any,
    data: TrainData,
    *,
    parts: Composition,
    config: Training,
    compute: Compute,
    run: Run,
    base: Path,
    output: Path,
    settings: Mapping[str, Any],
    facts: Mapping[str, Any] | None = None,
    standalone: bool = False,
) -> Course:
    """Train `model`, loaded from `base`, and write it to `output`.

    `training.json` there holds the course of the training and `facts`, `ratchet.json` the `settings`. Returns the loss on each validation
    set before the training, at every checkpoint, and at the end. With `standalone` the output is a full model, even if an adapter was trained.
    """
    compose.check(parts, standalone=standalone, fsdp=compute.fsdp)
    for column in parts.objective.spec.columns:
        if column.missing and not any(column.name in sequence.columns for sequence in data.train):
            raise ValueError(f"objective {parts.objective.name!r} {column.missing}.")
    parent = checkpoints.read_card(base).get("weights")
    before = validation.losses(model, data.valid, compute)
    telemetry = Telemetry(run, before)
    track = partial(run.track, unit="pack", status=lambda: "answers under the model before the training")
    identity = _identity(parts, data, parent, config.seed)
    reference = partial(with_reference, identity=identity, compute=compute, cache=run.cache, track=track)
    result = train.train(
        model.train(),
        data,
        parts,
        config,
        compute,
        run.work,
        on_resume=lambda step: run.say(f"an interrupted training goes on from step {step}"),
        on_step=telemetry.on_step,
        on_validation=telemetry.on_validation,
        reference=reference if parts.objective.spec.reference else None,
    )
    if summary := telemetry.summary():
        run.say(f"trained: {summary}")
    if frozen := _frozen_experts(result.attached, parts):
        cause = f"selector {parts.selector.name!r} chooses among linear layers"
        if parts.adapter.name != "none":
            cause = f"adapter {parts.adapter.name!r} changes linear layers here"
        run.say(f"{frozen:,} weights of experts stayed frozen: they are tensors of three dimensions, and {cause}")
    packs, sequences = result.left_out
    if packs:
        run.say(
            f"{packs} packs with {sequences} sequences at the end did not train: the processes could not share them evenly"
        )
    course = {name: [(0, loss), *result.measured[name]] for name, loss in before.items()}
    run.note(trainable=result.trainable, trained_tokens=result.tokens, precision=device.precision(compute))
    for name, points in course.items():
        losses = {f"{name}_loss_before": points[0][1], f"{name}_loss": points[-1][1]}
        run.log(None, **losses)
    batch = {**describe(result.first_batch, tokenizer), "weighs": parts.objective.spec.weighs}
    validated_on = validation.digest(data.valid)
    report = {**_report(result, parts, course), "validated_on": validated_on, **(facts or {}), "first_batch": batch}
    store.save(result.attached, parts, tokenizer, output, standalone=standalone)  # this merges in place
    if not checkpoints.is_adapter(output):
        processors.copy(base, output)
    (output / "training.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    checkpoints.write_card(output, method=parts.names, settings=settings, parent=parent)
    return course


def _frozen_experts(attached: Attached, parts: Composition) -> int:
    """Return the number of expert weights of a mixture of experts, if the training neither changes nor adapts any of them.

    0 if some train, and if the settings do not ask for them: the adapter's layers are listed by name, or cannot be chosen.
    """
    experts = {n: p for n, p in attached.model.named_parameters() if p.ndim == 3 and "experts" in n.split(".")}
    moves = any("experts" in name.split(".") for name in attached.trainable)  # peft's LoRA lies inside the module
    asked = parts.adapter.name == "none" or getattr(parts.adapter.config, "targets", ()) in (ALL_LINEAR, (ALL_LINEAR,))
    return 0 if moves or not asked else sum(parameter.numel() for parameter in experts.values())


def _identity(parts: Composition, data: TrainData, parent: str | None, seed: int) -> dict[str, Any]:
    """Return the identity of the model before the first step. It includes new modules, since some change the output from the start."""
    composed = {"base": parts.base, "expander": parts.expander, "adapter": parts.adapter}
    named = {family: [part.name, part.config.model_dump(mode="json")] for family, part in composed.items()}
    adapters = [provenance.digest(folder) for folder in (data.adapter, data.domains) if folder]
    return {"weights": parent, "adapters": adapters, "seed": seed, **named}


def _report(result: TrainResult, parts: Composition, course: Course) -> dict[str, Any]:
    """Return the contents of training.json."""
    facts = parts.adapter.method.facts
    return {
        "composition": parts.names,
        "loss": [[step, tokens, round(loss, 6)] for step, tokens, loss in result.losses],
        **{
            name: [[tokens, float(f"{value:.6g}")] for tokens, value in points] for name, points in result.steps.items()
        },
        "measured": {name: [[tokens, round(loss, 6)] for tokens, loss in points] for name, points in course.items()},
        "tokens": result.tokens,
        "trainable": result.trainable,
        "active": result.active,
        "parameters": result.parameters,
        **({"adapter": facts(result.model)} if facts else {}),
    }
