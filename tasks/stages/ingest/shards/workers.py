"""Write parts of sources in this process, in others of this machine, or on a Ray cluster that the environment names: the same bytes."""

import multiprocessing
import os
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path

from tasks.io.system import files, process, ray_cluster
from tasks.stages.ingest.config import IngestConfig
from tasks.stages.ingest.shards.parts import Part, code, write_part

PARTS_A_WORKER = 8
"""Parts that are worth the start of a process, or a way to a cluster, which take seconds."""


def write_parts(pending: Sequence[tuple[Part, Path]], config: IngestConfig, processes: int) -> Iterator[object]:
    """Write each part to its folder, and yield for each as it is done."""
    workers = min(processes, len(pending) // PARTS_A_WORKER)
    if (cluster := ray_cluster.address()) and len(pending) >= PARTS_A_WORKER:
        yield from _on_cluster(cluster, pending, config)
    elif workers > 1:
        yield from _in_processes(workers, pending, config)
    else:
        for part, folder in pending:
            yield write_part(part, folder, config)


def _in_processes(workers: int, pending: Sequence[tuple[Part, Path]], config: IngestConfig) -> Iterator[object]:
    spawn = multiprocessing.get_context("spawn")  # a fork would copy the locks of polars' threads
    with ProcessPoolExecutor(workers, spawn, process.die_with_parent) as pool:
        try:
            yield from pool.map(write_part, *zip(*pending, strict=True), repeat(config))
        finally:
            pool.shutdown(cancel_futures=True)


@dataclass(frozen=True)
class Task:
    """A part that another machine reads, and what has to be the same there."""

    part: Part
    config: IngestConfig
    workspace: Path
    code: str


def _on_cluster(cluster: str, pending: Sequence[tuple[Part, Path]], config: IngestConfig) -> Iterator[object]:
    """Have a cluster read the parts. This process alone writes folders: a node that was given up may come back and finish."""
    tasks = [Task(part, config, Path.cwd(), code()) for part, _ in pending]
    for number, contents in ray_cluster.apply(cluster, files_of, tasks):
        with files.atomic_path(pending[number][1]) as partial:
            partial.mkdir()
            for name, data in contents.items():
                (partial / name).write_bytes(data)
        yield number


def files_of(task: Task) -> dict[str, bytes]:
    """Return the files that `write_part` writes, by name.

    Raises FileNotFoundError if this node has no such workspace, ValueError if it has other code or libraries.
    """
    node = os.uname().nodename
    if not task.workspace.is_dir():
        raise FileNotFoundError(
            f"{node} has no folder {task.workspace}: every node of the cluster must see the workspace at this path."
        )
    os.chdir(task.workspace)
    if code() != task.code:
        raise ValueError(
            f"{node} has other code or another Python or polars than this machine. Install the same commit on every node, "
            "with `constraints.txt`."
        )
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "part"
        write_part(task.part, folder, task.config)
        return {file.name: file.read_bytes() for file in folder.iterdir()}
