"""Checkpoints of a training that several processes share, whose machines may have no common folder: rank 0 has all of each, and gives it out."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch.distributed as dist

from tasks.engine import device
from tasks.engine.training import checkpointing
from tasks.io import provenance

PART = 2**26
"""Bytes that are sent at once."""


def gather(folder: Path) -> None:
    """Bring what other processes wrote into a checkpoint, their random states, to rank 0. It is complete only with them."""
    if device.processes() == 1:
        return
    own = {path.name: path.read_bytes() for path in folder.glob(f"rng_state_{dist.get_rank()}.pth")}
    everyone: list[Any] | None = [None] * device.processes() if dist.get_rank() == 0 else None
    dist.gather_object(own, everyone)
    for name, content in ((name, content) for files in everyone or () for name, content in files.items()):
        if not (folder / name).exists():
            (folder / name).write_bytes(content)


def newest_of_first(work: Path) -> Path | None:
    """Return the newest complete checkpoint that rank 0 has. It is sent to machines that lack it: they may be new, or have a disk of their own."""
    newest = checkpointing.newest_complete(work)
    if device.processes() == 1:
        return newest
    chosen = _from_first((newest.name, provenance.digest(newest)) if newest else None)
    if chosen is None:
        return None
    folder, digest = work / chosen[0], chosen[1]
    is_here = (folder / checkpointing.COMPLETE).exists() and provenance.digest(folder) == digest
    is_anywhere: list[Any] = [None] * device.processes()
    dist.all_gather_object(is_anywhere, is_here)
    if not all(is_anywhere):
        _send(folder, receives=not is_here and os.environ["LOCAL_RANK"] == "0")
        dist.barrier()
    return folder


def _send(folder: Path, *, receives: bool) -> None:
    """Send the files of a folder from rank 0 to all, of whom those write them that are to receive them: whole, or not at all."""
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
    """Yield the name and the content of each file, of long ones in parts."""
    for path in sorted(folder.iterdir()):
        with path.open("rb") as file:
            yield path.name, file.read(PART)
            while content := file.read(PART):
                yield path.name, content


def _from_first(value: Any) -> Any:
    """Return what rank 0 calls this with."""
    values = [value]
    dist.broadcast_object_list(values)
    return values[0]
