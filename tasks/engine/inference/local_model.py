"""A model on disk that works on batches, in this process or on the nodes of a Ray cluster. Each process loads it once."""

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, fields
from functools import cached_property, lru_cache, partial
from pathlib import Path
from typing import Any, TypeVar

from tasks.core.compute import Compute
from tasks.core.imports import lasting
from tasks.engine.inference.batches import Apply, Loaded
from tasks.io import pinned, provenance
from tasks.io.system.ray_cluster import Needs
from tasks.io.system.workers import Workers, module_of
from tasks.io.weights import checkpoints

T = TypeVar("T")
R = TypeVar("R")
Load = Callable[..., tuple[Any, Any]]
"""`tasks.io.weights.checkpoints.load`, or `tasks.io.weights.models.load` where the model may be a compressed one."""


@dataclass(frozen=True)
class LocalModel:
    """A model that its folder fully determines. It is loaded when it is first needed."""

    folder: Path
    parent: Path | None
    """The base of an adapter."""
    load: Load
    compute: Compute

    @cached_property
    def loaded(self) -> Loaded:
        """Return the model and its tokenizer."""
        return Loaded(*self.load(self.folder, self.parent, **placed(self.compute)))

    @cached_property
    def weights(self) -> tuple[str, str]:
        """Return digests of the model and of its base."""
        return checkpoints.weights_digest(self.folder), checkpoints.weights_digest(self.parent) if self.parent else ""

    def __getstate__(self) -> dict[str, Any]:
        """Return the fields, without the loaded model: they are sent to a node, which loads the model itself."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def on(self, workers: Workers) -> Apply:
        """Return a function that applies work with the model: on the nodes of the cluster that the environment names, if there are enough
        batches for them, else in this process.

        Each batch takes `compute.threads` cores of a node, and a GPU if the model is on one. Raises what `Workers.apply` raises, and
        ValueError for a node of another class of machine, with other code or with other weights.
        """

        def apply(work: Callable[[Loaded, T], R], batches: Iterable[T], number: int) -> Iterator[R]:
            if not workers.uses_cluster(number):
                for batch in batches:
                    yield work(self.loaded, batch)
                return
            function = partial(on_node, self, self.weights, work)
            needs = Needs(self.compute.threads, gpus=int(self.compute.device == "cuda"))
            yield from workers.apply(
                function, batches, number, needs=needs, identity=partial(_identity_of, module_of(work))
            )

        return apply


def identity(folder: Path, parent: Path | None, compute: Compute) -> list[Any]:
    """Return everything that a model's answers depend on besides prompts and settings of generation, in a form that JSON can hold.

    This is its weights, tokenizer and chat template and those of its base, device and precision, and the code that generates.
    """
    with lasting():
        from tasks.engine import device
    folders = [pinned.digest(folder), pinned.digest(parent) if parent else ""]
    computed = compute.model_dump(mode="json") | {"precision": device.precision(compute)}
    code = provenance.code_digest(provenance.closure("tasks.engine.inference.generation"))
    return [*folders, computed, provenance.machine_class(), code]


def on_node(local: LocalModel, weights: tuple[str, str], work: Callable[[Loaded, T], R], batch: T) -> R:
    """Apply work to a batch on a node. Each process loads the model once. Raises ValueError if the node has other weights in the folder."""
    return work(_first_equal(local, weights).loaded, batch)


@lru_cache(maxsize=1)
def _first_equal(local: LocalModel, weights: tuple[str, str]) -> LocalModel:
    """Return the model that came with the first batch of this process. Later batches come with equal copies, which are not loaded."""
    for folder, expected, digest in zip((local.folder, local.parent), weights, local.weights, strict=True):
        if digest != expected:
            raise ValueError(
                f"{os.uname().nodename} has other weights at {folder} in {Path.cwd()} than this machine. Share the workspace between the "
                "nodes of the cluster, or copy these there."
            )
    return local


def placed(compute: Compute) -> dict[str, Any]:
    """Apply `compute` to this process, and return the precision and the device for a model."""
    with lasting():
        from tasks.engine import device
    device.use(compute)
    return {**device.placement(compute)}


def _identity_of(work: str, seam: str) -> dict[str, str]:
    """Return what determines results besides the weights: the code of both modules, and the class of the machine."""
    sources = {*provenance.closure(work), *provenance.closure(seam)}
    return {"code": provenance.code_digest(sorted(sources)), **provenance.machine_class()}
