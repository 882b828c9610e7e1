"""Seeds of a benchmark, one after the other here, or side by side on a Ray cluster."""

import importlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from tasks import trial_on_node
from tasks.core import environment
from tasks.core.compute import Compute
from tasks.io.system import ray_cluster
from tasks.io.system.ray_cluster import Needs
from tasks.io.system.workers import OnNode

R = TypeVar("R")


def of_seeds(function: Callable[[int], R], seeds: Sequence[int], compute: Compute) -> Iterator[R]:
    """Yield a function's result for each seed, in the order of the seeds.

    It is called here, for one seed after the other; or on the Ray cluster that `RATCHET_RAY` names, for as many at once as it has room for.
    There it keeps its results in the current folder, which all nodes share. A call takes the cores, or the GPU, that `compute` has.
    Raises RuntimeError, with what to do, for a cluster that cannot.
    """
    if (address := ray_cluster.address()) is None:
        yield from map(function, seeds)
        return
    on_node = OnNode(_Alone(function), Path.cwd(), trial_on_node.identity, trial_on_node.identity())
    with ray_cluster.connected(address) as cluster:
        yield from cluster.apply(on_node, seeds, Needs(compute.threads, gpus=int(compute.device == "cuda")))


def run_main(script: str) -> None:
    """Call the `main` of a script's module, imported by name, because processes of a cluster cannot import names from `__main__`."""
    importlib.import_module(Path(script).stem).main()


@dataclass(frozen=True)
class _Alone(Generic[R]):
    """A function whose stages do not use the cluster, all of whose nodes may be at other seeds."""

    function: Callable[[int], R]

    def __call__(self, seed: int) -> R:
        os.environ.pop(environment.RAY, None)
        return self.function(seed)
