"""The one training engine, on a plain `transformers.Trainer`. `tune` and `pretrain` are thin callers.

What trains is a composition of methods (`tasks.engine.compose`). The engine lays out the packs, calls the methods' hooks, and
leaves stepping, accumulation, precision, resume and distribution to Trainer.
"""

import json
import math
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
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
from tasks.core.sequences import Column, Encoded
from tasks.core.surgery import evaluating, plain
from tasks.core.training import Moment, Probe, Training
from tasks.engine import compose, device, fsdp
from tasks.engine.compose import Attached, Composition
from tasks.engine.forward import observe, token_losses
from tasks.engine.packing import Pack, by_budget, collate, schedule
from tasks.methods.objectives import Tokens

MARK = "complete"
"""A file whose presence in a checkpoint says that all of it was written."""
WEIGHTS = "trainable.safetensors"
NOTES = "notes.json"

OnStep = Callable[[int, int, float, float], None]


@dataclass(frozen=True)
class Outcome:
    """A trained model and the course of its training."""

    attached: Attached
    losses: list[tuple[int, int, float]]
    """(step, tokens so far, loss of the step in nats per trained token)."""
    tokens: int
    trainable: int
    """Parameters that may move at any time."""
    active: int
    """The most of them that moved in one step: fewer where a selector lets them take turns."""
    parameters: int
    measured: dict[str, list[tuple[int, float]]]
    """What `measure` found at each checkpoint and at the end: name → (tokens so far, value)."""

    @property
    def model(self) -> nn.Module:
        return self.attached.model


def train(
    model: nn.Module,
    sequences: Sequence[Encoded],
    parts: Composition,
    plan: Training,
    compute: Compute,
    work: Path,
    on_step: OnStep,
    *,
    probe: Sequence[Encoded] = (),
    valid: Sequence[Encoded] = (),
    measure: Callable[[nn.Module], dict[str, float]] = lambda _: {},
) -> Outcome:
    """Train `model` on `sequences` and return what came of it.

    Checkpoints go to `work`; a run that finds a complete one there continues it, and ends in the same bytes on a CPU.
    `on_step(step, steps, loss, learning_rate)` is called after every optimizer step. `probe` and `valid` are what methods may
    look at; where `probe` is empty it is the first pack that trains. `measure` is asked of the model at each checkpoint.
    Raises ValueError where the composition cannot work, and where a checkpoint was made with other settings.
    """
    torch.manual_seed(plan.seed)  # an adapter draws its first weights here
    sequences = [replace(sequence, number=number) for number, sequence in enumerate(sequences)]
    packs = schedule(sequences, plan.pack_tokens, plan.max_tokens, plan.epochs, plan.seed)
    world = int(os.environ.get("WORLD_SIZE", "1"))
    packs = packs[: max(len(packs) // world, 1) * world]  # every process takes part in every step
    per_step = plan.accumulation * world
    steps = math.ceil(len(packs) / per_step)
    tasks = tuple(sorted({sequence.task for sequence in (*sequences, *probe, *valid)}))
    columns = parts.objective.spec.columns
    with_auxiliary = list(by_budget([sequence for sequence in sequences if sequence.auxiliary], plan.pack_tokens))
    probed = _probe(list(by_budget(probe, plan.pack_tokens)) or packs[:1], tasks)
    validated = _probe(by_budget(valid, plan.pack_tokens), tasks)

    attached = compose.compose(model, parts, probed, plan.seed, fsdp=compute.fsdp)
    optimizer: Optimizer = parts.optimizer.method.make(
        compose.groups(attached, parts), parts.optimizer.config, plan.seed
    )
    warmup = math.ceil(plan.warmup * steps)
    scheduler: LRScheduler = get_scheduler(plan.schedule, optimizer, num_warmup_steps=warmup, num_training_steps=steps)
    notes = _Notes(
        _settings(parts, plan, compute) | {"processes": world, "packs": len(packs)},
        {kind: {} for kind, _ in compose.hooks(parts)},
    )

    def moment(kind: str, step: int) -> Moment:
        state = notes.states[kind]
        return Moment(
            step,
            steps,
            plan.seed,
            attached.model,
            optimizer,
            scheduler,
            probed,
            validated,
            state,
            len(sequences),
            lambda: _observed(attached.model, with_auxiliary, columns, compute),
        )

    def measured() -> dict[str, float]:
        with fsdp.whole_root(attached.model):
            return measure(attached.model)

    watch = _Watch(work, notes, lambda step, loss, rate: on_step(step, steps, loss, rate), measured)
    trainer = _Trainer(
        model=attached.model,
        args=_arguments(plan, compute, steps, work, clip=not parts.optimizer.spec.gradient_free),
        train_dataset=_Rows(packs, tasks, columns, per_step),
        data_collator=_only,
        callbacks=[_Hooks(parts, moment, attached, notes), watch],
    )
    trainer.optimizer, trainer.lr_scheduler = optimizer, scheduler  # as arguments they are refused under FSDP
    trainer.trains = attached.trainable
    trainer.estimate = optimizer.estimate if parts.optimizer.spec.gradient_free else None  # type: ignore[attr-defined]
    trainer.objective_state = lambda: _state_tensors(parts.objective.spec.state, notes.states.get("objective", {}))
    trainer.remove_callback(PrinterCallback)
    found = _newest_complete(work)
    if found:
        notes.restore(found)
    trainer.train(resume_from_checkpoint=str(found) if found else None)
    if compute.fsdp:
        attached = fsdp.gathered(attached)
    if not plan.save_every:
        notes.measured.append((steps, measure(attached.model)))
    history = [(int(row["step"]), float(row["loss"])) for row in trainer.state.log_history if "loss" in row]
    tokens_of = _tokens_by_step(packs, per_step)
    return Outcome(
        attached=attached,
        losses=[(step, tokens_of[step - 1], loss) for step, loss in history],
        tokens=sum(map(len, packs)),
        trainable=sum(p.numel() for p in attached.trainable.values()),
        active=notes.active,
        parameters=sum(p.numel() for p in attached.model.parameters()),
        measured=notes.course(tokens_of),
    )


class _Rows(Dataset[dict[str, Tensor]]):
    """The packs as rows of tensors, each with the number of trained tokens and examples of every task in its step."""

    def __init__(self, packs: Sequence[Pack], tasks: tuple[str, ...], columns: Sequence[Column], per_step: int) -> None:
        self._packs, self._tasks, self._columns, self._per_step = packs, tasks, columns, per_step

    def __len__(self) -> int:
        return len(self._packs)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        start = index // self._per_step * self._per_step
        of_step = [s for pack in self._packs[start : start + self._per_step] for s in pack.sequences]
        tokens = [sum(s.num_trained for s in of_step if s.task == task) for task in self._tasks]
        examples = [sum(s.task == task for s in of_step) for task in self._tasks]
        row = collate([self._packs[index]], self._tasks, self._columns)
        return row | {"task_tokens": torch.tensor(tokens), "task_examples": torch.tensor(examples)}


def _only(rows: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """A row is a batch already."""
    (row,) = rows
    return row


class _Trainer(Trainer):
    """Trainer, whose checkpoints hold what trains and no more, and which can do without a gradient."""

    trains: Mapping[str, nn.Parameter]
    estimate: Callable[[Callable[[], Tensor]], Tensor] | None
    objective_state: Callable[[], dict[str, Tensor]]

    def training_step(
        self, model: nn.Module, inputs: dict[str, Any], num_items_in_batch: Tensor | int | None = None
    ) -> Tensor:
        if self.estimate is None:
            return super().training_step(model, inputs, num_items_in_batch)
        row = self._prepare_inputs(inputs)

        def loss() -> Tensor:
            # Autocast keeps cast weights as long as it lasts, and here they change between two calls.
            with self.compute_loss_context_manager():
                return self.compute_loss(model, row, num_items_in_batch=num_items_in_batch)

        model.eval()
        with torch.no_grad():
            return self.estimate(loss)

    def _prepare_inputs(self, inputs: dict[str, Any]) -> dict[str, Any]:
        return super()._prepare_inputs(inputs | {"objective_state": self.objective_state()})

    def _save(self, output_dir: str | None = None, state_dict: Mapping[str, Tensor] | None = None) -> None:
        if not self.args.should_save:
            return
        whole = self.trains if state_dict is None else state_dict
        folder = Path(output_dir or str(self.args.output_dir))
        folder.mkdir(parents=True, exist_ok=True)
        save_file({name: whole[name].detach().contiguous() for name in self.trains}, folder / WEIGHTS)

    @torch.no_grad()
    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        if self.is_fsdp_enabled:
            raise ValueError(
                f"{resume_from_checkpoint}: with compute.fsdp a training does not go on from a checkpoint. "
                f"Remove {Path(resume_from_checkpoint).parent} to begin anew, or set compute.fsdp: false."
            )
        found = load_file(Path(resume_from_checkpoint) / WEIGHTS)
        if other := sorted(found.keys() ^ self.trains.keys()):
            raise ValueError(
                f"{resume_from_checkpoint} holds other weights than train now ({other[0]} is on one side alone): another choice of "
                f"layers was made. Remove {Path(resume_from_checkpoint).parent} to begin anew."
            )
        for name, tensor in found.items():
            self.trains[name].copy_(tensor)


class _Hooks(TrainerCallback):
    """Lets the methods act before every optimizer step, and notes how much then trains."""

    def __init__(
        self, parts: Composition, moment: Callable[[str, int], Moment], attached: Attached, notes: "_Notes"
    ) -> None:
        self._parts, self._moment, self._attached, self._notes = parts, moment, attached, notes

    def on_step_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        for kind, part in compose.hooks(self._parts):
            part.method.on_step(self._moment(kind, state.global_step), part.config)
        active = sum(p.numel() for p in self._attached.trainable.values() if p.requires_grad)
        self._notes.active = max(self._notes.active, active)


class _Watch(TrainerCallback):
    """Hands every step's loss on, and completes checkpoints: the methods' notes, then the mark."""

    def __init__(
        self,
        folder: Path,
        notes: "_Notes",
        on_step: Callable[[int, float, float], None],
        measure: Callable[[], dict[str, float]],
    ) -> None:
        self._folder, self._notes, self._on_step, self._measure = folder, notes, on_step, measure

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, logs: dict[str, float], **_: Any
    ) -> None:
        if "loss" in logs:
            self._on_step(state.global_step, logs["loss"], logs["learning_rate"])

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        folder = self._folder / f"checkpoint-{state.global_step}"
        self._notes.measured.append((state.global_step, self._measure()))
        if state.is_world_process_zero:
            self._notes.save(folder)
            (folder / MARK).touch()


class _Notes:
    """What a checkpoint says beside weights: the settings it was made with, and what the methods keep."""

    def __init__(self, settings: dict[str, Any], states: dict[str, dict[str, Any]]) -> None:
        self.settings, self.states = settings, states
        self.measured: list[tuple[int, dict[str, float]]] = []
        self.active = 0
        """The most parameters that trained in one step so far."""

    def course(self, tokens_of: Sequence[int]) -> dict[str, list[tuple[int, float]]]:
        """What was measured, by name, over the tokens seen."""
        names = self.measured[-1][1] if self.measured else {}
        return {name: [(tokens_of[step - 1], values[name]) for step, values in self.measured] for name in names}

    def save(self, folder: Path) -> None:
        kept = {"settings": self.settings, "states": self.states, "measured": self.measured, "active": self.active}
        (folder / NOTES).write_text(json.dumps(kept), encoding="utf-8")

    def restore(self, folder: Path) -> None:
        """Take the methods' notes over. Raises ValueError for a checkpoint of other settings."""
        found = json.loads((folder / NOTES).read_text(encoding="utf-8"))
        changed = [
            f"{name} is {self.settings.get(name)!r}, and was {found['settings'].get(name)!r}"
            for name in sorted({*self.settings, *found["settings"]})
            if self.settings.get(name) != found["settings"].get(name)
        ]
        if changed:
            raise ValueError(
                f"{folder} was made with other settings, so its training cannot go on: {'; '.join(changed)}. "
                f"Set them back, or remove {folder.parent}."
            )
        self.measured = [(step, values) for step, values in found["measured"]]
        self.active = found["active"]
        for kind, state in self.states.items():
            state |= found["states"][kind]


def _settings(parts: Composition, plan: Training, compute: Compute) -> dict[str, Any]:
    """Everything that decides the course of a training, flat, as JSON knows it."""
    ours = {
        name: value for name, value in plan.model_dump(mode="json").items() if name not in ("save_every", "workers")
    }
    theirs = {
        f"{part.name}.{name}": value
        for part in vars(parts).values()
        for name, value in part.config.model_dump(mode="json").items()
    }
    where = {"precision": device.precision(compute)}
    flat: dict[str, Any] = json.loads(json.dumps(ours | parts.names | theirs | where))
    return flat


@torch.no_grad()
def _observed(
    model: nn.Module, packs: Sequence[Pack], columns: Sequence[Column], compute: Compute
) -> Iterator[tuple[Tensor, Tokens]]:
    """Yield the token losses and `Tokens` of some packs with their auxiliary sequences. The model's mode is left as it is."""
    inner: Any = plain(model)
    with evaluating(inner), device.autocast(compute):
        for pack in packs:
            batch = {name: tensor.to(inner.device) for name, tensor in collate([pack], columns=columns).items()}
            yield observe(inner, batch, auxiliary=True)


def _state_tensors(names: Sequence[str], state: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return the entries of an objective's state that its loss reads."""
    return {name: torch.tensor(state[name]) for name in names if name in state}


def _probe(packs: Any, tasks: tuple[str, ...]) -> Probe:
    def losses(model: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
        inner: Any = plain(model)
        return token_losses(inner, {name: tensor.to(inner.device) for name, tensor in batch.items()})

    return Probe([collate([pack], tasks) for pack in packs], losses, tasks)


def _arguments(plan: Training, compute: Compute, steps: int, work: Path, *, clip: bool) -> TrainingArguments:
    return TrainingArguments(
        output_dir=str(work),
        per_device_train_batch_size=1,  # an item is a pack
        gradient_accumulation_steps=plan.accumulation,
        max_steps=steps,
        max_grad_norm=plan.clip if clip else 0.0,
        bf16=device.precision(compute) == "bf16",
        fsdp=compute.fsdp,
        use_cpu=compute.device == "cpu",
        seed=plan.seed,
        data_seed=plan.seed,
        dataloader_num_workers=plan.workers,
        train_sampling_strategy="sequential",  # the schedule has shuffled already, epoch by epoch
        remove_unused_columns=False,
        logging_steps=1,
        logging_nan_inf_filter=False,  # a loss that is not finite is to be seen
        save_strategy="steps" if plan.save_every else "no",
        save_steps=plan.save_every or 1,
        save_total_limit=2,
        ignore_data_skip=False,
        report_to=[],
        disable_tqdm=True,
    )


def _tokens_by_step(packs: Sequence[Pack], per_step: int) -> list[int]:
    """Tokens seen after each step."""
    seen = list(accumulate(map(len, packs)))
    return [*seen[per_step - 1 :: per_step], *([seen[-1]] if len(packs) % per_step else [])]


def _newest_complete(work: Path) -> Path | None:
    """The newest checkpoint that was written to its end; torn ones are removed, since Trainer would take them."""
    found = sorted(work.glob("checkpoint-*"), key=lambda path: int(path.name.rsplit("-", 1)[1]))
    whole = [path for path in found if (path / MARK).exists()]
    for path in found:
        if path not in whole:
            shutil.rmtree(path, ignore_errors=True)  # every process of a training does this
    return whole[-1] if whole else None
