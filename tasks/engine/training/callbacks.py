"""Callbacks of the trainer: run methods' hooks before a step, complete checkpoints, time and report steps."""

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from tasks.core.training import Moment
from tasks.engine.training import checkpointing, compose
from tasks.engine.training.checkpointing import TrainingState
from tasks.engine.training.compose import Attached, Composition


class MethodHooks(TrainerCallback):
    """Lets the methods act before every optimizer step, and counts the parameters that then train."""

    def __init__(
        self,
        parts: Composition,
        attached: Attached,
        start: Moment,
        state: TrainingState,
        settle: Callable[[], None],
    ) -> None:
        """Take the parts and their state. `settle` makes a step that is still due, because methods read weights."""
        self._parts, self._attached, self._start, self._state, self._settle = parts, attached, start, state, settle

    def moment(self, kind: str, step: int) -> Moment:
        """Return the moment before a step, with the state of the method of this kind."""
        return replace(self._start, step=step, state=self._state.methods[kind])

    def on_step_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if hooks := compose.hooks(self._parts):
            self._settle()
        for kind, part in hooks:
            part.method.on_step(self.moment(kind, state.global_step), part.config)
        active = sum(p.numel() for p in self._attached.trainable.values() if p.requires_grad)
        self._state.active = max(self._state.active, active)


class CheckpointCompletion(TrainerCallback):
    """Measures the model at each checkpoint, and writes the training's state into it last."""

    def __init__(self, work: Path, state: TrainingState, validate: Callable[[int], dict[str, float]]) -> None:
        self._work, self._state, self._validate = work, state, validate

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self._state.measured.append((state.global_step, self._validate(state.global_step)))
        folder = self._work / f"checkpoint-{state.global_step}"
        checkpointing.gather(folder)
        if state.is_world_process_zero:
            self._state.save(folder)


class StepReporter(TrainerCallback):
    """Reports every step with the seconds it took, and validates after every `validate_every` of them (0: never).

    It comes after `CheckpointCompletion`, whose time counts for no step.
    """

    def __init__(
        self,
        report: Callable[[int, dict[str, float], float], None],
        validate: Callable[[int], object],
        validate_every: int,
    ) -> None:
        self._report, self._validate, self._validate_every = report, validate, validate_every
        self._since: float | None = None

    def on_step_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if self._since is None:  # from now on a step's time includes the loading of its packs
            self._since = time.perf_counter()

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, logs: dict[str, float], **_: Any
    ) -> None:
        if "loss" not in logs or self._since is None:
            return
        self._report(state.global_step, logs, time.perf_counter() - self._since)
        due = self._validate_every and state.global_step % self._validate_every == 0
        if due and not control.should_save and state.global_step < state.max_steps:
            self._validate(state.global_step)
        self._since = time.perf_counter()

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self._since = time.perf_counter()
