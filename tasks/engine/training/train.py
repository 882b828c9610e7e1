"""Train a composition of methods (`tasks.engine.training.compose`) with a plain `transformers.Trainer`, for stages `tune` and `pretrain`.

The engine lays out the packs and calls the methods' hooks; Trainer does stepping, accumulation, precision, resuming and distribution.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from transformers import get_scheduler

from tasks.core.compute import Compute
from tasks.core.sequences import Column, Encoded
from tasks.core.training import Moment, Probe, Training
from tasks.core.weights import activations
from tasks.core.weights.surgery import evaluating, plain
from tasks.engine import device
from tasks.engine.forward import observe, reads_alone, token_logits, token_losses, use_packed_attention
from tasks.engine.packing import Pack, Packs, by_budget, collate
from tasks.engine.sequences import Sequences, listed, numbered
from tasks.engine.training import checkpointing, compose, fsdp, validation
from tasks.engine.training.batches import Batches, lay_out
from tasks.engine.training.callbacks import CheckpointCompletion, MethodHooks, StepReporter
from tasks.engine.training.checkpointing import TrainingState
from tasks.engine.training.compose import Attached, Composition
from tasks.engine.training.flops import Utilisation
from tasks.engine.training.telemetry import OnStep, OnValidation, StepMetrics
from tasks.engine.training.trainer import PackTrainer, training_arguments
from tasks.methods.objectives import Tokens

Measure = Callable[[nn.Module], dict[str, float]]
Reference = Callable[[nn.Module, Sequence[Encoded]], Sequences]


@dataclass(frozen=True)
class TrainData:
    """The sequences of a training."""

    train: Sequence[Encoded]
    valid: validation.Sets = field(default_factory=dict)
    """Held-out sets by name. Methods may read those of their sequences whose tasks are trained."""
    probe: Sequence[Encoded] = ()
    """A few sequences for methods to examine. If it is empty, they examine the first training pack."""
    judged: Sequence[Encoded] = ()
    """Held-out answers as the objective encodes them. Their rewards are measured at every validation."""
    adapter: Path | None = None
    """The folder of the adapter that the training starts from; None for a new one."""
    domains: Path | None = None
    """The folder of the bank whose adapters, one for each domain, are mixed; None if none are mixed."""


@dataclass(frozen=True)
class TrainResult:
    """A trained model and the course of its training."""

    attached: Attached
    losses: list[tuple[int, int, float]]
    """(step, tokens so far, loss of the step in nats per trained token)."""
    steps: dict[str, list[tuple[int, float]]]
    """`learning_rate`, and `gradient_norm` before clipping where there are gradients → (tokens so far, value) of each step."""
    first_batch: list[Pack]
    """The packs of the first step."""
    tokens: int
    trainable: int
    """Parameters that train at some step."""
    active: int
    """The most parameters that trained in one step: fewer than `trainable` if a selector lets them take turns."""
    parameters: int
    measured: dict[str, list[tuple[int, float]]]
    """Name → (tokens so far, value) at each checkpoint and at the end."""
    left_out: tuple[int, int]
    """The number of packs that the processes could not share evenly, and of their sequences (`Batches`)."""

    @property
    def model(self) -> nn.Module:
        return self.attached.model


def train(
    model: nn.Module,
    data: TrainData,
    parts: Composition,
    config: Training,
    compute: Compute,
    work: Path,
    *,
    on_resume: Callable[[int], None] = lambda _: None,
    on_step: OnStep = lambda _: None,
    on_validation: OnValidation = lambda _, __: None,
    measure: Measure | None = None,
    reference: Reference | None = None,
) -> TrainResult:
    """Train `model` on `data` and return the result.

    Checkpoints go to `work`. A run that finds a complete checkpoint there continues from it, and on a CPU ends with the same bytes.
    `on_resume` is called with the step of that checkpoint, `on_step` after every optimizer step, `on_validation` after every validation.
    `measure` returns the values that are recorded at each checkpoint and at the end: by default the losses on the validation sets.
    `reference` is given the composed model before its first step, and returns sequences with that model's figures, for an objective that
    reads them.
    Raises ValueError if the composition cannot work, or if a checkpoint was made with other settings.
    """
    compose.check_floor(parts, config)

    # data
    sequences = numbered(listed(data.train))
    held_out = [sequence for rows in data.valid.values() for sequence in rows]
    trained = tuple(sequences.facts.tasks.present)
    tasks = tuple(sorted({*trained, *(one.task for one in (*data.probe, *held_out))}))
    batches = lay_out(sequences, trained, parts.objective.spec.columns, config)
    compose.check_steps(parts, batches.steps)
    use_packed_attention(model)
    each = reads_alone(model)
    probe = _probe(by_budget(data.probe, config.pack_tokens) or batches.packs.first(1), tasks, each=each)
    valid = _probe(by_budget([one for one in held_out if one.task in trained], config.pack_tokens), trained, each=each)

    # model
    torch.manual_seed(config.seed)  # an adapter draws its first weights here
    attached = compose.compose(
        model, parts, probe, config.seed, saved=data.adapter, domains=data.domains, fsdp=compute.fsdp
    )

    # reference
    judged = data.judged
    if reference:
        sequences, judged = reference(attached.model, sequences), judged and reference(attached.model, judged)
        batches = replace(batches, packs=Packs(sequences, batches.packs.places, batches.packs.counts))
    with_auxiliary = by_budget(sequences.choose(np.flatnonzero(sequences.facts.auxiliary)), config.pack_tokens)

    # optimizer
    optimizer, scheduler = _optimizer(attached, parts, config, batches.steps)
    gradient_free = parts.optimizer.spec.gradient_free
    makes_all = not gradient_free and parts.sparsifier.name == "none"  # all the matrix products that the MFU counts
    settle = _stream(optimizer, attached.model, compute, work) if parts.optimizer.spec.streams else _nothing

    # loop
    state = TrainingState(
        checkpointing.settings_of(parts, config, compute, len(batches.packs)),
        {kind: {} for kind, _ in compose.hooks(parts)},
    )
    start = Moment(
        step=0,
        steps=batches.steps,
        seed=config.seed,
        model=attached.model,
        optimizer=optimizer,
        scheduler=scheduler,
        probe=probe,
        valid=valid,
        linear=compose.linear(attached, parts),
        sequences=len(sequences),
        auxiliary=lambda: _observed(attached.model, with_auxiliary, batches.columns, compute),
    )
    measure = measure or (lambda model: validation.losses(model, data.valid, compute))
    utilisation = Utilisation(attached.model, compute)

    def validate(step: int) -> dict[str, float]:
        settle()
        with fsdp.whole_root(attached.model):
            values = measure(attached.model)
            rewards = validation.rewards(attached.model, judged, parts.objective, compute)
        on_validation(step, values | rewards)
        return values

    def report(step: int, logs: Mapping[str, float], seconds: float) -> None:
        packs = batches.of_step(step)
        metrics = StepMetrics(
            step=step,
            steps=batches.steps,
            loss=logs["loss"],
            learning_rate=logs["learning_rate"],
            gradient_norm=None if gradient_free else logs.get("grad_norm"),
            epoch=batches.sequences_after[step - 1] / sequences.per_epoch,
            tokens=sum(map(len, packs)),
            trained_tokens=sum(sequence.num_trained for pack in packs for sequence in pack.sequences),
            seconds=seconds,
            mfu=utilisation.of(packs * parts.objective.spec.looks, seconds) if makes_all else None,
        )
        on_step(metrics)

    trainer = PackTrainer(
        attached,
        batches,
        optimizer,
        scheduler,
        training_arguments(config, compute, steps=batches.steps, work=work, gradient_free=gradient_free),
        callbacks=[
            MethodHooks(parts, attached, start, state, settle),
            CheckpointCompletion(work, state, validate),
            StepReporter(report, validate, validation.interval(config, batches, data.valid, judged)),
        ],
        gradient_free=gradient_free,
        floor=config.floor,
        settle=settle,
        objective_state=lambda: _objective_state(parts, state),
    )
    checkpoint = checkpointing.newest_of_first(work)
    if checkpoint:
        state.restore(checkpoint)
        on_resume(int(checkpoint.name.rpartition("-")[2]))
    elif rewards := validation.rewards(attached.model, judged, parts.objective, compute):
        on_validation(0, rewards)
    with activations.applied(attached.model, wanted=config.activation_checkpointing):
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)

    # result
    settle()
    parts.sparsifier.method.restore(attached.model)
    if compute.fsdp:
        attached = fsdp.gathered(attached)
    if not config.save_every:
        state.measured.append((batches.steps, validate(batches.steps)))
    return _result(attached, batches, state, trainer.state.log_history)


def _optimizer(attached: Attached, parts: Composition, config: Training, steps: int) -> tuple[Optimizer, LRScheduler]:
    """Return the optimizer of the trainable parameters, and the schedule of its learning rate."""
    groups = compose.groups(attached, parts)
    optimizer: Optimizer = parts.optimizer.method.make(groups, parts.optimizer.config, config.seed)
    warmup = math.ceil(config.warmup * steps)
    scheduler: LRScheduler = get_scheduler(
        config.schedule, optimizer, num_warmup_steps=warmup, num_training_steps=steps
    )
    return optimizer, scheduler


def _stream(optimizer: Any, model: nn.Module, compute: Compute, work: Path) -> Callable[[], None]:
    """Have an optimizer that streams move the model's blocks to their place, and return the function that makes a step which is still due."""
    optimizer.stream(model, compute.device, work)
    settle: Callable[[], None] = optimizer.settle
    return settle


def _nothing() -> None:
    """Do nothing: the `settle` of optimizers that never defer a step."""


def _result(
    attached: Attached, batches: Batches, state: TrainingState, history: Iterable[Mapping[str, float]]
) -> TrainResult:
    """Return the result of a training from its state and Trainer's history."""
    rows = [row for row in history if "loss" in row]
    losses = [(int(row["step"]), float(row["loss"])) for row in rows]
    return TrainResult(
        attached=attached,
        losses=[(step, batches.tokens_after[step - 1], loss) for step, loss in losses],
        steps=_by_tokens(batches, rows, {"learning_rate": "learning_rate", "grad_norm": "gradient_norm"}),
        first_batch=batches.of_step(1),
        tokens=batches.tokens_after[-1],
        trainable=sum(p.numel() for p in attached.trainable.values()),
        active=state.active,
        parameters=sum(p.numel() for p in attached.model.parameters()),
        measured=state.measured_by_tokens(batches.tokens_after),
        left_out=batches.left_out,
    )


def _by_tokens(
    batches: Batches, rows: Iterable[Mapping[str, float]], names: Mapping[str, str]
) -> dict[str, list[tuple[int, float]]]:
    """Return the finite values of Trainer's history over the tokens seen, under our `names`; names without a value are left out."""
    values = {
        name: [
            (batches.tokens_after[int(row["step"]) - 1], float(row[key]))
            for row in rows
            if key in row and math.isfinite(row[key])
        ]
        for key, name in names.items()
    }
    return {name: points for name, points in values.items() if points}


def _probe(packs: Iterable[Pack], tasks: tuple[str, ...], *, each: bool) -> Probe:
    """Return the packs for methods to examine. With `each`, every sequence is a pack of its own, so that a hook sees one sequence a pass."""
    if each:
        packs = [Pack((sequence,)) for pack in packs for sequence in pack.sequences]

    def apply(function: Callable[..., Tensor], model: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
        inner: Any = plain(model)
        return function(inner, {name: tensor.to(inner.device) for name, tensor in batch.items()})

    batches = [collate([pack], tasks) for pack in packs]
    return Probe(batches, partial(apply, token_losses), partial(apply, token_logits), tasks)


def _objective_state(parts: Composition, state: TrainingState) -> dict[str, Tensor]:
    """Return the entries of the objective's state that its loss reads."""
    entries = state.methods.get("objective", {})
    return {name: torch.tensor(entries[name]) for name in parts.objective.spec.state if name in entries}


@torch.no_grad()
def _observed(
    model: nn.Module, packs: Sequence[Pack], columns: Sequence[Column], compute: Compute
) -> Iterator[tuple[Tensor, Tokens]]:
    """Yield the token losses and `Tokens` of some packs with their auxiliary sequences. The model's mode does not change."""
    inner: Any = plain(model)
    with evaluating(inner), device.autocast(compute):
        for pack in packs:
            batch = {name: tensor.to(inner.device) for name, tensor in collate([pack], columns=columns).items()}
            yield observe(inner, batch, auxiliary=True)
