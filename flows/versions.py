"""The store of judged models: `models/versions/<number>/`, and `models/champion`, a link to the one in place.

Each holds the last decision on it and what `ratchet why` compares (`candidate.json`, `results.parquet` of the gate set,
`params.yaml`, `dvc.lock`); one that was promoted also holds its files, `model/` and, where that is a change, `base/`. They share
their bytes with DVC's cache where the disk can link, and stay when `dvc gc` empties it: the links are our own.
"""

import os
import shutil
import stat
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from flows import history, workspace
from flows.history import Decision, Rollback
from tasks.io import provenance

FOLDER = Path("models/versions")
CHAMPION = Path("models/champion")
RESULTS, DECISION = "results.parquet", "decision.json"
ROLLBACK = FOLDER / "rollback.json"
"""The last line of the history that is no decision, for the day it is lost there."""
WRITABLE = stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH
EVIDENCE = ("params.yaml", "dvc.lock", "models/candidate.json")


def place(version: int) -> Path:
    """The folder of a version."""
    return FOLDER / str(version)


def keep(decision: Decision, results: Path, files: Mapping[str, Path]) -> None:
    """Store a decision before it stands in the history, what it was made on, and the files of a model that it promotes, by kind.

    A version is there whole or not at all.
    """
    partial = FOLDER / f"{decision.version}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    shutil.copyfile(results, partial / RESULTS)
    for path in map(Path, EVIDENCE):
        if path.is_file():
            shutil.copyfile(path, partial / path.name)
    for kind, folder in files.items():
        shutil.copytree(folder, partial / kind, copy_function=_link)
    workspace.replace(partial / DECISION, decision.model_dump_json())
    shutil.rmtree(place(decision.version), ignore_errors=True)  # of one that was refused before
    partial.rename(place(decision.version))


def note(line: Decision | Rollback) -> None:
    """Store a line before it stands in the history: a rollback, or another decision on a version that was promoted before, which
    stays what it is, a bar for all that come."""
    path = ROLLBACK if isinstance(line, Rollback) else place(line.version) / DECISION
    workspace.replace(path, line.model_dump_json())


def lines() -> list[Decision | Rollback]:
    """What the store knows of the history: the last decision on each version, and the last rollback. Raises ValueError naming a
    version without its decision: half a copy, or nothing that this code has kept."""
    folders = [path for path in FOLDER.glob("*") if path.name.isdecimal()]
    return [_line(folder / DECISION) for folder in folders] + ([_line(ROLLBACK)] if ROLLBACK.is_file() else [])


def decision(version: int) -> Decision:
    """The last decision on a version. Raises ValueError where the store lost it."""
    found = _line(place(version) / DECISION)
    assert isinstance(found, Decision)
    return found


def _line(path: Path) -> Decision | Rollback:
    try:
        return history.parsed(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        raise ValueError(
            f"{path} is missing or damaged, and what {path.parent} holds is not known without it. Copy the folder anew from where "
            "it was promoted, or from the copy of models/versions/ that you keep."
        ) from None


def check(version: int, files: Mapping[str, str]) -> None:
    """Raise ValueError unless the store holds these folders of a version, by their hashes."""
    for kind, expected in files.items():
        folder = _present(version, kind)
        if (found := provenance.digest(folder)) != expected:
            raise ValueError(
                f"{folder} does not hold version {version}: its hash is {found[:12]}, not {expected[:12]}. Copy the folder from "
                "where it was promoted, or from the copy of models/versions/ that you keep."
            )


def _present(version: int, kind: str) -> Path:
    """A folder of a version. Raises FileNotFoundError where the store does not hold it."""
    folder = place(version) / kind
    if not folder.is_dir():
        raise FileNotFoundError(
            f"{folder} is missing: the files of version {version} are not in this workspace. Copy models/versions/ from "
            "where it was promoted."
        )
    return folder


def point(version: int) -> None:
    """Let `models/champion` be this version, at once; no version at all for 0. Raises where the store does not hold it."""
    if version == 0:
        CHAMPION.unlink(missing_ok=True)
        return
    _present(version, "model")
    target = Path(FOLDER.name) / str(version)
    if CHAMPION.is_symlink() and CHAMPION.readlink() == target:
        return
    partial = CHAMPION.with_name(CHAMPION.name + ".partial")
    partial.unlink(missing_ok=True)
    partial.symlink_to(target)
    partial.replace(CHAMPION)


def pointed() -> int:
    """The version that `models/champion` is; 0 where it is none."""
    return int(CHAMPION.readlink().name) if CHAMPION.is_symlink() else 0


def _link(source: str, target: str) -> None:
    """The same bytes under another name; a copy where the disk cannot link, or where the file may be written: plain `dvc repro`
    leaves such, and an edit in place would be one of the kept version too. What the workspace links to is followed."""
    real = Path(os.path.realpath(source))
    if not real.stat().st_mode & WRITABLE:
        with suppress(OSError):
            os.link(real, target)
            return
    shutil.copyfile(real, target)
