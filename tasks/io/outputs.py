"""The outputs of stages: written beside their places, renamed there once all are whole, and taken over where another item has them."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tasks.io import files, provenance

MADE = Path(".ratchet/made")
Paths = Mapping[str, Path]
"""Name of an output → its place."""


def prepare(writes: Paths) -> dict[str, Path]:
    """A sibling to write each output to, free of what an earlier, broken run left."""
    partial = {name: files.sibling(path) for name, path in writes.items()}
    for path in partial.values():
        files.remove(path)
        path.parent.mkdir(parents=True, exist_ok=True)
    return partial


def publish(partial: Paths, writes: Paths) -> None:
    """Rename every output into place. They are all complete before the first moves."""
    missing = [str(writes[name]) for name, path in partial.items() if not path.exists()]
    assert not missing, f"the stage ended without writing {', '.join(missing)}"
    for name, path in partial.items():
        files.remove(writes[name])
        path.rename(writes[name])


def remember(stage: str, key: str, writes: Paths) -> None:
    """Note what the outputs of a stage (`tune@r0`) hold, and the key of all that they follow from."""
    record = {"key": key, "outputs": {name: provenance.digest(path) for name, path in writes.items()}}
    files.write_atomically(_record(stage), json.dumps(record))


def take_over(stage: str, key: str, writes: Paths, partial: Paths) -> bool:
    """Copy the outputs of `stage` to `partial` if they follow from `key` and every byte of them is what it wrote.

    Returns whether that was so. Copies rather than links: DVC, which has these bytes already, links both to its cache.
    """
    record = _recalled(stage)
    if record.get("key") != key:
        return False
    try:
        for name, path in writes.items():
            copy(path, partial[name])
    except (FileNotFoundError, shutil.Error):  # it is being made anew, or a part of it is not there
        whole = False
    else:
        whole = {name: provenance.digest(path) for name, path in partial.items()} == record["outputs"]
    if not whole:
        for path in partial.values():
            files.remove(path)
    return whole


def copy(source: Path, target: Path) -> None:
    """Copy the bytes of a file or folder; neither its times nor that DVC made it read-only."""
    if source.is_dir():
        shutil.copytree(source, target, copy_function=shutil.copyfile)
    else:
        shutil.copyfile(source, target)


def size(path: Path) -> int:
    """The bytes of a file, or of all files in a folder."""
    inside = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in inside if file.is_file())


def _record(stage: str) -> Path:
    return MADE / f"{stage}.json"


def _recalled(stage: str) -> dict[str, Any]:
    try:
        return dict(json.loads(_record(stage).read_text(encoding="utf-8")))
    except (FileNotFoundError, json.JSONDecodeError):
        return {}  # it only saves time
