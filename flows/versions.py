"""The store of judged models: `models/versions/<number>/`, and `models/champion`, a link to the one in place.

Each holds the last decision on it and what `ratchet why` compares (`candidate.json`, `results.parquet` of the gate set,
`params.yaml`, `dvc.lock`); one that was promoted also holds its files, `model/` and, where that is a change, `base/`. They share
their bytes with DVC's cache where the disk can link, and stay when `dvc gc` empties it: the links are our own.
"""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from flows import workspace
from flows.history import Decision
from tasks.io import provenance

FOLDER = Path("models/versions")
CHAMPION = Path("models/champion")
RESULTS, DECISION = "results.parquet", "decision.json"
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
    workspace.replace(partial / DECISION, decision.model_dump_json())
    shutil.copyfile(results, partial / RESULTS)
    for path in map(Path, EVIDENCE):
        if path.is_file():
            shutil.copyfile(path, partial / path.name)
    for kind, folder in files.items():
        shutil.copytree(folder, partial / kind, copy_function=_link)
    shutil.rmtree(
        place(decision.version), ignore_errors=True
    )  # of one that was refused before, or of a decision cut off
    partial.rename(place(decision.version))


def note(decision: Decision) -> None:
    """Store another decision on a version that was promoted before, which stays what it is: a bar for all that come."""
    workspace.replace(place(decision.version) / DECISION, decision.model_dump_json())


def decisions() -> list[Decision]:
    """The last decision on each version that the store holds."""
    return [Decision.model_validate_json(path.read_text(encoding="utf-8")) for path in FOLDER.glob(f"*/{DECISION}")]


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


def _link(source: str, target: str) -> None:
    """The same bytes under another name; a copy where the disk cannot link, or where the file may be written: plain `dvc repro`
    leaves such, and an edit in place would be one of the kept version too. What the workspace links to is followed."""
    real = Path(os.path.realpath(source))
    try:
        if real.stat().st_mode & 0o222:
            raise PermissionError
        os.link(real, target)
    except OSError:
        shutil.copyfile(source, target)
