"""Read, write and order `dvc.lock`, and detect a write that was cut off: DVC rewrites the file in place."""

from collections.abc import Mapping
from itertools import takewhile
from pathlib import Path
from typing import Any

import yaml

from flows.execution import workspace
from flows.execution.dvc import repository
from tasks.io import config_file
from tasks.io.system import files, progress

PATH = Path("dvc.lock")
GOOD = workspace.SCRATCH / "dvc.lock.good"
"""The last canonical lock file, which replaces a truncated one."""
TEMPORARY = files.sibling(PATH)
CONFLICT = "git has left a merge conflict in it"
SCHEMA = "2.0"


def stages(path: Path = PATH) -> dict[str, dict[str, Any]]:
    """Return the stages of a lock file in its order; none if there is no file."""
    return parse(path.read_text(encoding="utf-8")) if path.is_file() else {}


def parse(text: str) -> dict[str, dict[str, Any]]:
    """Return the stages in the text of a lock file, in its order."""
    return dict((yaml.load(text, config_file.LOADER) or {}).get("stages", {}))


def write(entries: Mapping[str, Any]) -> None:
    """Write a `dvc.lock` that holds these stages."""
    text = yaml.dump({"schema": SCHEMA, "stages": dict(entries)}, Dumper=config_file.DUMPER, sort_keys=False)
    PATH.write_text(text, encoding="utf-8")


def tidy() -> bool:
    """Put `dvc.lock` in its canonical form: stages in plan order, without those that dvc.yaml lacks. Return True if it changed.

    Two drivers finish stages in different orders; in canonical form their lock files are byte-identical. If a cut-off write lost entries at
    the end, they are restored from the last good copy: if such an entry is out of date, its stage runs.
    """
    from dvc.utils.serialize import dumps_yaml, load_yaml

    with repository.opened() as repo:
        if not PATH.exists():
            return False
        lock = load_yaml(PATH)
        good = load_yaml(GOOD).get("stages", {}) if GOOD.exists() and not problem(GOOD) else {}
        stages = [stage for stage in repository.ordered_stages(repo)[1] if hasattr(stage, "name")]
        named = {stage.name: {file.def_path for file in (*stage.deps, *stage.outs)} for stage in stages}
        entries = lock.get("stages", {})
        if lost := _lost(entries, good, named):
            entries |= {name: good[name] for name in lost}
            progress.say(f"{PATH} lacks {', '.join(lost)}, which its last good copy has; restored from there.")
        text = dumps_yaml(lock | {"stages": {name: entries[name] for name in named if name in entries}})
        changed = text != PATH.read_text(encoding="utf-8")
        if changed:
            files.write_atomically(PATH, text)
        files.write_atomically(GOOD, text)
        return changed


def obsolete_stages() -> list[str]:
    """Return the stages that `dvc.lock` has and dvc.yaml lacks."""
    with repository.opened() as repo:
        defined = {stage.addressing for stage in repo.index.graph}
        return [name for name in stages() if name not in defined]


def problem(path: Path = PATH) -> str | None:
    """Return why a lock file cannot be read; None if it is complete or absent.

    A truncated YAML file is mostly still valid YAML. A cut between two files of a stage cannot be detected here: `tidy` finds that the
    other files are missing.
    """
    if not path.exists():
        return None
    text = path.read_bytes()
    if any(line.startswith(b"<<<<<<< ") for line in text.splitlines()):
        return CONFLICT
    if not text.endswith(b"\n"):
        return "its last line is truncated"
    from dvc.exceptions import DvcException
    from dvc.schema import COMPILED_LOCKFILE_SCHEMA
    from dvc.utils.serialize import load_yaml
    from voluptuous import Invalid

    try:
        lock = load_yaml(path)
        if not lock:
            return "it is empty"
        COMPILED_LOCKFILE_SCHEMA(lock)
    except (DvcException, Invalid) as error:
        return str(error).splitlines()[0]
    incomplete = [name for name, entry in lock.get("stages", {}).items() if not _has_hashes(entry)]
    return f"stage {incomplete[0]} has an entry without a hash" if incomplete else None


def _has_hashes(entry: dict[str, Any]) -> bool:
    """Return True if every file of a stage's entry has a hash, beside its path and the name of the hash."""
    paths = [*entry.get("deps", []), *entry.get("outs", [])]
    return all(
        any(isinstance(value, str) and name not in ("path", "hash") for name, value in file.items()) for file in paths
    )


def _lost(entries: dict[str, Any], good: dict[str, Any], named: Mapping[str, set[str]]) -> list[str]:
    """Return the stages that a cut-off write has lost, from the end of the good copy: those without an entry in the lock file, and those in
    whose entry a file that dvc.yaml still names is missing or incomplete. `named` maps each stage to these files. An entry's files are
    written last.
    """

    def is_lost(name: str) -> bool:
        present, whole = _files(entries.get(name, {})), _files(good[name])
        return name not in entries or any(
            present.get(path, {}).items() < whole[path].items() for path in whole.keys() & named[name]
        )

    return list(takewhile(is_lost, [name for name in reversed(good) if name in named]))[::-1]


def _files(entry: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return what an entry holds of each file, by path. `isexec` is left out, as it depends on the file's mode."""
    files_of_entry = (*entry.get("deps", []), *entry.get("outs", []))
    return {file["path"]: {part: value for part, value in file.items() if part != "isexec"} for file in files_of_entry}
