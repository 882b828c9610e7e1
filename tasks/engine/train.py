"""The one training engine, on a plain `transformers.Trainer`. `tune` and `pretrain` are thin callers.

What trains is a composition: adapter × selector × optimizer × objective. The engine lays out the packs, binds the objective
into the model's forward, and leaves stepping, accumulation, precision, resume and distribution to Trainer.
"""

import math
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torch.utils.data import Dataset
from transformers import (
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
    get_scheduler,
)

from tasks.core.compute import Compute
from tasks.engine import device
from tasks.engine.encode import Encoded
from tasks.engine.forward import bind_loss
from tasks.engine.packing import Pack, collate, schedule

MARK = "complete"
"""A file whose presence in a checkpoint says that all of it was written."""


@dataclass(frozen=True)
class Part:
    """A method's module and its settings."""

    module: ModuleType
    params: Any


@dataclass(frozen=True)
class Composition:
    """What trains, and how."""

    adapter: Part
    selector: Part
    optimizer: Part
    objective: Part


@dataclass(frozen=True)
class Plan:
    """How long and in what portions."""

    pack_tokens: int
    accumulation: int
    """Packs of one optimizer step."""
    max_tokens: int
    epochs: int
    warmup: float
    """Share of the steps in which the learning rate rises."""
    schedule: str
    clip: float
    """Largest norm of the gradient."""
    save_every: int
    """Steps between checkpoints."""
    workers: int
    seed: int


@dataclass(frozen=True)
class Outcome:
    """A trained model and the course of its training."""

    model: nn.Module
    losses: list[tuple[int, int, float]]
    """(step, tokens so far, loss of the step in nats per trained token)."""
    tokens: int
    trainable: int
    parameters: int


class _Packs(Dataset[Pack]):
    def __init__(self, packs: list[Pack]) -> None:
        self._packs = packs

    def __len__(self) -> int:
        return len(self._packs)

    def __getitem__(self, index: int) -> Pack:
        return self._packs[index]


class _Watch(TrainerCallback):
    """Hands every step's loss on, and marks complete checkpoints."""

    def __init__(self, folder: Path, on_step: Callable[[int, float, float], None]) -> None:
        self._folder, self._on_step = folder, on_step

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, logs: dict[str, float], **_: Any
    ) -> None:
        if "loss" in logs:
            self._on_step(state.global_step, logs["loss"], logs["learning_rate"])

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        (self._folder / f"checkpoint-{state.global_step}" / MARK).touch()


def compose(model: nn.Module, parts: Composition) -> nn.Module:
    """`model` with the objective bound into its forward, the adapter attached and the selector's choice made.

    Raises ValueError where the composition leaves nothing to train.
    """
    bind_loss(model, parts.objective.module.METHOD, parts.objective.params)
    attached: nn.Module = parts.adapter.module.METHOD.attach(model, parts.adapter.params)
    parts.selector.module.METHOD.choose(attached, parts.selector.params)
    if not any(parameter.requires_grad for parameter in attached.parameters()):
        names = [part.module.__name__.rsplit(".", 1)[-1] for part in (parts.adapter, parts.selector)]
        raise ValueError(f"Nothing trains: adapter {names[0]!r} with selector {names[1]!r} leaves every weight frozen.")
    return attached


def train(
    model: nn.Module,
    sequences: Sequence[Encoded],
    parts: Composition,
    plan: Plan,
    compute: Compute,
    work: Path,
    on_step: Callable[[int, int, float, float], None],
) -> Outcome:
    """Train `model` on `sequences` and return what came of it.

    Checkpoints go to `work`; a run that finds a complete one there continues it, and ends in the same bytes on a CPU.
    `on_step(step, steps, loss, learning_rate)` is called after every optimizer step.
    """
    torch.manual_seed(plan.seed)  # an adapter draws its first weights here
    packs = schedule(sequences, plan.pack_tokens, plan.max_tokens, plan.epochs, plan.seed)
    steps = math.ceil(len(packs) / plan.accumulation)
    attached = compose(model, parts)
    optimizer: Optimizer = parts.optimizer.module.METHOD.make(attached, parts.optimizer.params)
    warmup = math.ceil(plan.warmup * steps)
    scheduler: LRScheduler = get_scheduler(plan.schedule, optimizer, num_warmup_steps=warmup, num_training_steps=steps)
    trainer = Trainer(
        model=attached,
        args=_arguments(plan, compute, steps, work),
        train_dataset=_Packs(packs),
        data_collator=collate,
        optimizers=(optimizer, scheduler),
        callbacks=[_Watch(work, lambda step, loss, rate: on_step(step, steps, loss, rate))],
    )
    trainer.remove_callback(PrinterCallback)
    trainer.train(resume_from_checkpoint=_newest_complete(work))
    history = [(int(row["step"]), float(row["loss"])) for row in trainer.state.log_history if "loss" in row]
    tokens_of = _tokens_by_step(packs, plan.accumulation)
    return Outcome(
        model=attached,
        losses=[(step, tokens_of[step - 1], loss) for step, loss in history],
        tokens=sum(map(len, packs)),
        trainable=sum(p.numel() for p in attached.parameters() if p.requires_grad),
        parameters=sum(p.numel() for p in attached.parameters()),
    )


def _arguments(plan: Plan, compute: Compute, steps: int, work: Path) -> TrainingArguments:
    return TrainingArguments(
        output_dir=str(work),
        per_device_train_batch_size=1,  # an item is a pack
        gradient_accumulation_steps=plan.accumulation,
        max_steps=steps,
        max_grad_norm=plan.clip,
        bf16=device.precision(compute) == "bf16",
        use_cpu=compute.device == "cpu",
        seed=plan.seed,
        data_seed=plan.seed,
        dataloader_num_workers=plan.workers,
        train_sampling_strategy="sequential",  # the schedule has shuffled already, epoch by epoch
        remove_unused_columns=False,
        logging_steps=1,
        logging_nan_inf_filter=False,  # a loss that is not finite is to be seen
        save_strategy="steps",
        save_steps=plan.save_every,
        save_total_limit=2,
        ignore_data_skip=False,
        report_to=[],
        disable_tqdm=True,
    )


def _tokens_by_step(packs: Sequence[Pack], accumulation: int) -> list[int]:
    """Tokens seen after each step."""
    seen = list(accumulate(map(len, packs)))
    return [*seen[accumulation - 1 :: accumulation], *([seen[-1]] if len(packs) % accumulation else [])]


def _newest_complete(work: Path) -> str | None:
    """The newest checkpoint that was written to its end; torn ones are removed, since Trainer would take them."""
    found = sorted(work.glob("checkpoint-*"), key=lambda path: int(path.name.rsplit("-", 1)[1]))
    whole = [path for path in found if (path / MARK).exists()]
    for path in found:
        if path not in whole:
            shutil.rmtree(path)
    return str(whole[-1]) if whole else None
