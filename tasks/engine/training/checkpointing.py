"""Checkpoints of a training: their state besides tensors, and the choice of the one to continue from.

Machines that share a training may have no common folder, so rank 0 holds every checkpoint completely and sends it to the others.
"""

import json
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch.distributed as dist

from tasks.core.compute import Compute
from tasks.core.training import Training
from tasks.engine import device
from tasks.engine.training.compose import Composition
from tasks.io import provenance

COMPLETE = "complete"
"""The file that is written last: a checkpoint without it is incomplete."""
WEIGHTS = "trainable.safetensors"
KEPT = "kept.safetensors"
"""The file of tensors that change without being trained, if there are any."""
STATE = "training_state.json"
WITHOUT_EFFECT = frozenset({"save_every", "workers"})
"""Settings that do not change what a training computes."""
PART = 2**26
"""Bytes of a file that are sent to other machines in one message."""


class TrainingState:
    """The part of a checkpoint that Trainer does not keep."""

    def __init__(self, config: dict[str, Any], methods: dict[str, dict[str, Any]]) -> None:
        self.config = config
        """Everything that determines the course of the training; a checkpoint with other settings is refused."""
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
        # if only one side has a method, name the method and not each of its settings
        told = [name for name in changed if name in both or "." not in name] or changed
        if changed:
            values = "; ".join(
                f"{name} is {self.config.get(name)!r}, and was {saved['config'].get(name)!r}" for name in told
            )
            raise ValueError(
                f"{folder} was made with other settings, so its training cannot continue: {values}. "
                f"Restore them, or remove {folder.parent}."
            )
        self.measured = [(step, values) for step, values in saved["measured"]]
        self.active = saved["active"]
        for kind, state in self.methods.items():
            state |= saved["methods"][kind]


def settings_of(parts: Composition, config: Training, compute: Compute, packs: int) -> dict[str, Any]:
    """Return everything that determines the course of a training, as a flat mapping of JSON values."""
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


def gather(folder: Path) -> None:
    """Send the random states, which other processes wrote into a checkpoint, to rank 0. The checkpoint is complete only with them."""
    if device.processes() == 1:
        return
    own = {path.name: path.read_bytes() for path in folder.glob(f"rng_state_{dist.get_rank()}.pth")}
    everyone: list[Any] | None = [None] * device.processes() if dist.get_rank() == 0 else None
    dist.gather_object(own, everyone)
    for name, content in ((name, content) for files in everyone or () for name, content in files.items()):
        if not (folder / name).exists():
            (folder / name).write_bytes(content)


def newest_of_first(work: Path) -> Path | None:
    """Return the newest complete checkpoint of rank 0. It is sent to machines that lack it: they may be new, or have a disk of their own."""
    newest = newest_complete(work)
    if device.processes() == 1:
        return newest
    chosen = _from_first((newest.name, provenance.digest(newest)) if newest else None)
    if chosen is None:
        return None
    folder, digest = work / chosen[0], chosen[1]
    is_here = (folder / COMPLETE).exists() and provenance.digest(folder) == digest
    is_anywhere: list[Any] = [None] * device.processes()
    dist.all_gather_object(is_anywhere, is_here)
    if not all(is_anywhere):
        _send(folder, receives=not is_here and os.environ["LOCAL_RANK"] == "0")
        dist.barrier()
    return folder


def _send(folder: Path, *, receives: bool) -> None:
    """Send the files of a folder from rank 0 to all processes. Those with `receives` write the folder, completely or not at all."""
    partial = folder.with_name(f"partial-{folder.name}")
    if receives:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
    parts = _parts(folder) if dist.get_rank() == 0 else iter(())
    while part := _from_first(next(parts, None)):
        if receives:
            name, content = part
            with (partial / name).open("ab") as file:
                file.write(content)
    if receives:
        shutil.rmtree(folder, ignore_errors=True)
        partial.rename(folder)


def _parts(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Yield the name and the content of each file, long files in parts."""
    for path in sorted(folder.iterdir()):
        with path.open("rb") as file:
            yield path.name, file.read(PART)
            while content := file.read(PART):
                yield path.name, content


def _from_first(value: Any) -> Any:
    """Return the value that rank 0 passes to this function."""
    values = [value]
    dist.broadcast_object_list(values)
    return values[0]
