"""Store judged models: `models/versions/<number>/`, and `models/champion`, a link to the version in place.

Each version holds the last decision on it and what `ratchet why` compares (`candidate.json`, `results.parquet` of the gate set,
`params.yaml`, `dvc.lock`); one that was promoted also holds its files, `model/` and, where that is a change, `base/`. They share
their bytes with DVC's cache where the disk can link, and stay when `dvc gc` empties it: the links are our own.
"""

import os
import shutil
import stat
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from flows.registry import history
from flows.registry.history import PromotionDecision, Rollback
from tasks.io import provenance
from tasks.io.system import files

FOLDER = Path("models/versions")
CHAMPION = Path("models/champion")
RESULTS, DECISION = "results.parquet", "decision.json"
ROLLBACK = FOLDER / "rollback.json"
"""Holds the last rollback, in case the history loses it."""
WRITABLE = stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH
EVIDENCE = ("params.yaml", "dvc.lock", "models/candidate.json")


def folder(version: int) -> Path:
    """Return the folder of a version."""
    return FOLDER / str(version)


def store(decision: PromotionDecision, results: Path, model_files: Mapping[str, Path]) -> None:
    """Store a decision before it is written to the history, with its evidence, and the files of a model that it promotes, by kind.

    A version is stored whole or not at all.
    """
    partial, replaced = (FOLDER / f"{decision.version}.{state}" for state in ("partial", "replaced"))
    for rest in (partial, replaced):
        shutil.rmtree(rest, ignore_errors=True)
    partial.mkdir(parents=True)
    shutil.copyfile(results, partial / RESULTS)
    for path in map(Path, EVIDENCE):
        if path.is_file():
            shutil.copyfile(path, partial / path.name)
    for kind, source in model_files.items():
        shutil.copytree(source, partial / kind, copy_function=link_file)
    files.write_atomically(partial / DECISION, decision.model_dump_json())
    if folder(decision.version).is_dir():  # left by a refusal; an incomplete folder would block every later decision
        folder(decision.version).rename(replaced)
    partial.rename(folder(decision.version))
    shutil.rmtree(replaced, ignore_errors=True)


def store_line(line: PromotionDecision | Rollback) -> None:
    """Store a line before it is written to the history: a rollback, or another decision on a version that was promoted before. That
    version stays a bar for all candidates that come.
    """
    path = ROLLBACK if isinstance(line, Rollback) else folder(line.version) / DECISION
    files.write_atomically(path, line.model_dump_json())


def lines() -> list[PromotionDecision | Rollback]:
    """Return the lines of the history that the store holds: the last decision on each version, and the last rollback.

    Raises ValueError that names a version without its decision: an incomplete copy.
    """
    paths = [path for path in FOLDER.glob("*") if path.name.isdecimal()]
    return [_line(path / DECISION) for path in paths] + ([_line(ROLLBACK)] if ROLLBACK.is_file() else [])


def decision(version: int) -> PromotionDecision:
    """Return the last decision on a version. Raises ValueError if the store lost it."""
    line = _line(folder(version) / DECISION)
    assert isinstance(line, PromotionDecision)
    return line


def _line(path: Path) -> PromotionDecision | Rollback:
    try:
        return history.parse(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        raise ValueError(
            f"{path} is missing or damaged, and what {path.parent} holds is not known without it. Copy the folder again from where "
            "it was promoted, or from the copy of models/versions/ that you keep."
        ) from None


def check_files(version: int, digests: Mapping[str, str]) -> None:
    """Raise ValueError unless the store holds these folders of a version, by their hashes."""
    for kind, expected in digests.items():
        path = _present(version, kind)
        if (digest := provenance.digest(path)) != expected:
            raise ValueError(
                f"{path} does not hold version {version}: its hash is {digest[:12]}, not {expected[:12]}. Copy the folder from "
                "where it was promoted, or from the copy of models/versions/ that you keep."
            )


def _present(version: int, kind: str) -> Path:
    """Return a folder of a version's files. Raises FileNotFoundError if the store lacks it."""
    path = folder(version) / kind
    if not path.is_dir():
        raise FileNotFoundError(
            f"{path} is missing: the files of version {version} are not in this workspace. Copy models/versions/ from "
            "where it was promoted."
        )
    return path


def set_champion(version: int) -> None:
    """Link `models/champion` to this version, or remove the link for 0. Raises FileNotFoundError if the store lacks the version."""
    if version == 0:
        CHAMPION.unlink(missing_ok=True)
        return
    _present(version, "model")
    target = Path(FOLDER.name) / str(version)
    if CHAMPION.is_symlink() and CHAMPION.readlink() == target:
        return
    with files.atomic_path(CHAMPION) as link:
        link.symlink_to(target)


def linked_champion() -> int:
    """Return the version that `models/champion` links to; 0 if there is no link."""
    return int(CHAMPION.readlink().name) if CHAMPION.is_symlink() else 0


def link_file(source: str, target: str) -> None:
    """Link a file; copy it if the file system has no links or the file is writable. Links in the workspace are followed.

    Plain `dvc repro` leaves writable files, and an edit in place would change the stored version too.
    """
    real = Path(os.path.realpath(source))
    if not real.stat().st_mode & WRITABLE:
        with suppress(OSError):
            os.link(real, target)
            return
    shutil.copyfile(real, target)
