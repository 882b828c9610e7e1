"""Count the memory of a training once, by `tasks.memory_count`, and remember it in the user's cache folder.

It enters no output: it only serves `ratchet plan` before the first run, and `ratchet doctor --memory`.
"""

import hashlib
import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import psutil

from flows.execution.cost import estimates, remembered, workload
from flows.execution.cost.estimates import MB, Range, StageEstimate
from tasks import configuration
from tasks.configuration import PipelineConfig
from tasks.io import provenance
from tasks.io.weights import checkpoints

PATIENCE_S = 600
"""Seconds after which a count counts as failed: an adapter that decomposes weights takes minutes."""
SPREAD = 0.15
"""Share by which the memory of a training may differ from its count."""
COPIES = 2.5
"""Free memory that counting needs: weights as they are read and as they train, as a multiple of the weights in fp32."""


@dataclass(frozen=True)
class MemoryCount:
    """Bytes of a training at its peak."""

    tensors: int
    """Weights, optimizer, and activations kept for the backward pass: what a GPU has to hold."""
    process: int
    """Python and its libraries."""
    holes: int
    """Heap fragmentation: bytes that the heap of a training on a CPU holds and does not use."""

    @property
    def total(self) -> int:
        return self.tensors + self.process + self.holes


def of(stage: str, config: PipelineConfig) -> MemoryCount | None:
    """Return the memory of a stage's training, counted if it is not known yet.

    None if the stage trains nothing, its model does not exist yet or does not fit into this machine's memory, or its parts contradict each
    other.
    """
    folder = _base(stage, config.fetch.model.model_dump())
    settings = getattr(config, stage)
    if not settings.max_tokens or folder is None:
        return None
    file, key = remembered.cache_file("memory_counts.json"), _key(stage, config, folder)
    return remembered.get(file, key, lambda values: MemoryCount(**values), partial(_count, stage, folder))


def here(count: MemoryCount, stage: str, config: PipelineConfig) -> int:
    """Return the bytes of a training on this machine: on a CPU, each process that shares its steps takes the whole count."""
    return count.total * estimates.processes_here(stage, config)


def refined(by_stage: dict[str, StageEstimate], config: PipelineConfig) -> dict[str, StageEstimate]:
    """Return the estimates with the counted memory of those trainings that no run with equal settings has measured."""
    return {stage: _refined(stage.partition("@")[0], estimate, config) for stage, estimate in by_stage.items()}


def _refined(stage: str, estimate: StageEstimate, config: PipelineConfig) -> StageEstimate:
    if estimate.source == "equal settings" or not configuration.declaration(stage).trains:
        return estimate
    counted = of(stage, config)
    if counted is None:
        return estimate
    megabytes = here(counted, stage, config) / MB
    return replace(estimate, memory_mb=Range((1 - SPREAD) * megabytes, (1 + SPREAD) * megabytes))


def _base(stage: str, model: Mapping[str, Any]) -> Path | None:
    """Return the folder of the model that a stage starts from: its own, or the base if its own does not exist yet; None if both were made
    from another model than `model`."""
    if not workload.is_fetched(model):
        return None
    folders = Path(configuration.declaration(stage).reads["base"]), workload.BASE
    return next((folder for folder in folders if (folder / "config.json").is_file() and _is_of_base(folder)), None)


def _is_of_base(folder: Path) -> bool:
    """Return False if the card of a model names another base than the one in `models/base`."""
    weights, card = checkpoints.read_card(workload.BASE).get("weights"), checkpoints.read_card(folder)
    return weights is None or not card or weights in (card.get("weights"), card.get("parent"))


def _has_room(folder: Path) -> bool:
    """Return True if the weights in `folder` fit into free memory as many times as counting needs them."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    width = 2 if "16" in str(config.get("dtype") or config.get("torch_dtype")) else 4
    weights = sum(file.stat().st_size for file in folder.glob("*.safetensors")) * 4 / width
    return COPIES * weights < psutil.virtual_memory().available


def _key(stage: str, config: PipelineConfig, folder: Path) -> str:
    """Return a hash of what a count depends on: settings of the stage and of its parts, the model's shape, and versions of packages."""
    section = getattr(config, stage)
    facts = provenance.machine_class()
    parts = {name: _section(config, name) for name in sorted(set(configuration.parts(stage, config).values()))}
    contents: list[Any] = [
        stage,
        section.model_dump(mode="json"),
        section.activation_checkpointing,
        parts,
        config.compute.model_dump(mode="json"),
        (folder / "config.json").read_text(encoding="utf-8"),
        [facts[package] for package in ("python", "torch", "transformers")],
    ]
    return hashlib.sha256(json.dumps(contents, sort_keys=True).encode()).hexdigest()


def _section(config: PipelineConfig, name: str) -> Any:
    section = getattr(config.methods, name, None)
    return section.model_dump(mode="json") if section is not None else None


def _count(stage: str, folder: Path) -> remembered.Values | None:
    if not _has_room(folder):
        return None
    sys.stderr.write(f"Counting the memory of stage {stage}, once …\n")
    sys.stderr.flush()
    return remembered.printed("tasks.memory_count", stage, str(folder), patience_s=PATIENCE_S)
