"""Read the graph that a `dvc.lock` records: the hashes of its files, and the stages from which files follow."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

IGNORED = {".gitkeep"}
"""Files that `.dvcignore` excludes from the hashes of folders."""


def hashes(entry: Mapping[str, Any], kind: str) -> dict[str, str]:
    """Return the hashes of the `deps` or `outs` of an entry of dvc.lock: path → hash."""
    return {item["path"]: item.get("md5", "") for item in entry.get(kind, [])}


def overlap(path: str, out: str) -> bool:
    """Return True if the paths are equal or one contains the other: a stage may read a folder in which others write."""
    first, second = Path(path), Path(out)
    return first == second or first in second.parents or second in first.parents


def upstream(lock: Mapping[str, Mapping[str, Any]], paths: Sequence[str]) -> set[str]:
    """Return the stages of a dvc.lock from which these files follow, directly or through other stages."""
    needed, wanted = set(), list(paths)
    for stage, entry in reversed(list(lock.items())):  # plan order: a stage's inputs come from stages before it
        if any(overlap(path, out) for out in hashes(entry, "outs") for path in wanted):
            needed.add(stage)
            wanted += hashes(entry, "deps")
    return needed


def members(path: Path) -> list[Path]:
    """Return the files that the hash of a path covers: the file itself, or all files of a folder."""
    if path.is_file():
        return [path]
    kept = (file for file in path.rglob("*") if file.is_file() and file.name not in IGNORED)
    return sorted(file for file in kept if "__pycache__" not in file.parts)


def digest(path: Path, md5_of: Mapping[Path, str]) -> str:
    """Return the hash that dvc.lock has for a path, from the MD5 of its files.

    The hash of a folder is the MD5 of the JSON list of its files, with the suffix `.dir` (dvc_data.hashfile.tree, format 2.0).
    """
    if path.is_file():
        return md5_of[path]
    listing = [{"md5": md5, "relpath": file.relative_to(path).as_posix()} for file, md5 in md5_of.items()]
    text = json.dumps(sorted(listing, key=lambda entry: entry["relpath"]), sort_keys=True)
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest() + ".dir"
