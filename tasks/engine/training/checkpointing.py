"""Checkpoints of a training: the state they keep beside tensors, and the one to continue from."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tasks.core.compute import Compute
from tasks.core.training import Training
from tasks.engine import device
from tasks.engine.training.compose import Composition

COMPLETE = "complete"
"""A file that is written last: a checkpoint without it was cut off."""
WEIGHTS = "trainable.safetensors"
KEPT = "kept.safetensors"
"""What changes without training, where there is any."""
STATE = "training_state.json"
WITHOUT_EFFECT = frozenset({"save_every", "workers"})
"""Settings that do not change what a training computes."""


class TrainingState:
    """The part of a checkpoint that Trainer does not keep."""

    def __init__(self, config: dict[str, Any], methods: dict[str, dict[str, Any]]) -> None:
        self.config = config
        """Everything that decides the course of the training; a checkpoint of other settings is refused."""
        self.methods = methods
        """Kind of method → the state that its `on_step` keeps."""
        self.measured: list[tuple[int, dict[str, float]]] = []
        """(step, name → value) at each checkpoint, and at the end."""
        self.active = 0
        """The most parameters that trained in one step so far."""

    def measured_by_tokens(self, tokens_after: Sequence[int]) -> dict[str, list[tuple[int, float]]]:
        """Return what was measured by name, over the tokens seen."""
        names = self.measured[-1][1] if self.measured else {}
        return {name: [(tokens_after[step - 1], values[name]) for step, values in self.measured] for name in names}

    def save(self, folder: Path) -> None:
        """Write the state into a checkpoint, and mark it as complete."""
        (folder / STATE).write_text(json.dumps(vars(self)), encoding="utf-8")
        (folder / COMPLETE).touch()

    def restore(self, folder: Path) -> None:
        """Take over the state of a checkpoint. Raises ValueError if it was made with other settings."""
        saved = json.loads((folder / STATE).read_text(encoding="utf-8"))
        both = self.config.keys() & saved["config"].keys()
        changed = [
            name
            for name in sorted({*self.config, *saved["config"]})
            if self.config.get(name) != saved["config"].get(name)
        ]
        # of a method that only one side has its name is said, and not each of its settings
        told = [name for name in changed if name in both or "." not in name] or changed
        if changed:
            values = "; ".join(
                f"{name} is {self.config.get(name)!r}, and was {saved['config'].get(name)!r}" for name in told
            )
            raise ValueError(
                f"{folder} was made with other settings, so its training cannot go on: {values}. "
                f"Set them back, or remove {folder.parent}."
            )
        self.measured = [(step, values) for step, values in saved["measured"]]
        self.active = saved["active"]
        for kind, state in self.methods.items():
            state |= saved["methods"][kind]


def settings_of(parts: Composition, config: Training, compute: Compute, packs: int) -> dict[str, Any]:
    """Return everything that decides the course of a training, flat, as JSON has it."""
    recorded = {
        **{name: value for name, value in config.model_dump(mode="json").items() if name not in WITHOUT_EFFECT},
        **parts.names,
        **{
            f"{part.name}.{name}": value
            for part in vars(parts).values()
            for name, value in part.config.model_dump(mode="json").items()
        },
        "precision": device.precision(compute),
        "processes": device.processes(),
        "packs": packs,
    }
    flat: dict[str, Any] = json.loads(json.dumps(recorded))
    return flat


def newest_complete(work: Path) -> Path | None:
    """Return the newest complete checkpoint; remove incomplete ones, since Trainer would take them."""
    checkpoints = sorted(work.glob("checkpoint-*"), key=lambda path: int(path.name.rsplit("-", 1)[1]))
    complete = [path for path in checkpoints if (path / COMPLETE).exists()]
    for path in checkpoints:
        if path not in complete:
            shutil.rmtree(path, ignore_errors=True)  # every process of a training does this
    return complete[-1] if complete else None
