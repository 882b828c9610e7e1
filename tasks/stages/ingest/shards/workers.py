"""Write parts of sources in this process, in other processes of this machine, or on a Ray cluster, with the same bytes."""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from tasks.io.system import files, scratch
from tasks.io.system.workers import Workers
from tasks.stages.ingest.config import IngestConfig
from tasks.stages.ingest.shards.parts import Part, write_part


def write_parts(pending: Sequence[tuple[Part, Path]], config: IngestConfig, workers: Workers) -> Iterator[None]:
    """Write each part to its folder, and yield once for each part when it is done."""
    number = len(pending)
    if not workers.uses_cluster(number):
        yield from workers.apply(partial(_write, config), pending, number)
        return
    # Only this process writes folders, since a node that was given up may come back and finish its work.
    contents = workers.apply(partial(files_of, config), [part for part, _ in pending], number)
    for (_, folder), data_of_files in zip(pending, contents, strict=True):
        with files.atomic_path(folder) as partial_folder:
            partial_folder.mkdir()
            for name, data in data_of_files.items():
                (partial_folder / name).write_bytes(data)
        yield


def _write(config: IngestConfig, item: tuple[Part, Path]) -> None:
    part, folder = item
    write_part(part, folder, config)


def files_of(config: IngestConfig, part: Part) -> dict[str, bytes]:
    """Return the files that `write_part` writes, by name."""
    with scratch.folder("part") as own:
        folder = own / "part"
        write_part(part, folder, config)
        return {file.name: file.read_bytes() for file in folder.iterdir()}
