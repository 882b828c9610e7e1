"""Outputs of stages: written to temporary paths, renamed into place when all are complete, or copied from an equal item."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tasks.io import provenance
from tasks.io.system import files

MADE = Path(".ratchet/made")
Paths = Mapping[str, Path]
"""Name of an output → its place."""


def prepare(writes: Paths) -> dict[str, Path]:
    """Return a temporary path for each output, without the leftovers of an interrupted run."""
    partial = {name: files.sibling(path) for name, path in writes.items()}
    for path in partial.values():
        files.remove(path)
        path.parent.mkdir(parents=True, exist_ok=True)
    return partial


def publish(partial: Paths, writes: Paths) -> None:
    """Rename every output into place, after all are complete. Raises RuntimeError if one is missing."""
    if missing := [str(writes[name]) for name, path in partial.items() if not path.exists()]:
        raise RuntimeError(
            f"the stage ended without writing {', '.join(missing)}. Outputs of an earlier run stay as they are."
        )
    for name, path in partial.items():
        files.remove(writes[name])
        path.rename(writes[name])


def changed_meanwhile(what: str, stage: str) -> RuntimeError:
    """Return the error about outputs that were made from the state before an edit. DVC hashes the inputs only when the stage has ended."""
    return RuntimeError(
        f"{what} changed while {stage} ran on the earlier contents, so its outputs would be taken for outputs of the present ones. "
        "Run it again; if the earlier contents are restored, a training continues from its last checkpoint."
    )


def remember(stage: str, key: str, writes: Paths) -> None:
    """Record the digests of a stage's outputs (`tune@r0`), and the key of everything on which they depend."""
    record = {"key": key, "outputs": {name: provenance.digest(path) for name, path in writes.items()}}
    files.write_atomically(_record(stage), json.dumps(record))


def take_over(stage: str, key: str, writes: Paths, partial: Paths) -> bool:
    """Copy the outputs of `stage` to `partial` if they belong to `key` and every byte is unchanged.

    Return True if they were copied. They are not linked, because DVC, which already has these bytes, links both to its cache.
    """
    record = _recalled(stage)
    if record.get("key") != key:
        return False
    try:
        for name, path in writes.items():
            copy(path, partial[name])
    except (FileNotFoundError, shutil.Error):  # it is being recreated, or a part of it is missing
        is_unchanged = False
    else:
        is_unchanged = {name: provenance.digest(path) for name, path in partial.items()} == record["outputs"]
    if not is_unchanged:
        for path in partial.values():
            files.remove(path)
    return is_unchanged


def copy(source: Path, target: Path) -> None:
    """Copy the bytes of a file or folder, without its times and DVC's read-only flag."""
    if source.is_dir():
        shutil.copytree(source, target, copy_function=shutil.copyfile)
    else:
        shutil.copyfile(source, target)


def size(path: Path) -> int:
    """Return the size in bytes of a file, or of all files in a folder."""
    inside = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in inside if file.is_file())


def _record(stage: str) -> Path:
    return MADE / f"{stage}.json"


def _recalled(stage: str) -> dict[str, Any]:
    try:
        return dict(json.loads(_record(stage).read_text(encoding="utf-8")))
    except (FileNotFoundError, json.JSONDecodeError):
        return {}  # the digests only save time
