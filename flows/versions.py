"""The store of judged models: `models/versions/<number>/`, and `models/champion`, a link to the one in place.

Each holds what `ratchet why` compares (`candidate.json`, `results.parquet` of the gate set, `params.yaml`, `dvc.lock`); one
that was promoted also holds its files, `model/` and, where that is a change, `base/`. They share their bytes with DVC's cache
where the disk can link, and stay when `dvc gc` empties it: the links are our own.
"""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from tasks.io import provenance

FOLDER = Path("models/versions")
CHAMPION = Path("models/champion")
RESULTS = "results.parquet"
EVIDENCE = ("params.yaml", "dvc.lock", "models/candidate.json")


def place(version: int) -> Path:
    """The folder of a version."""
    return FOLDER / str(version)


def keep(version: int, results: Path, files: Mapping[str, Path]) -> None:
    """Store what a decision was made on, and the model's own `files` by kind.

    A version is there whole or not at all; where it was judged before, what it holds stays until what replaces it is whole.
    """
    partial = FOLDER / f"{version}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    shutil.copyfile(results, partial / RESULTS)
    for path in map(Path, EVIDENCE):
        if path.is_file():
            shutil.copyfile(path, partial / path.name)
    for kind, folder in files.items():
        shutil.copytree(folder, partial / kind, copy_function=_link)
    if not place(version).exists():
        partial.rename(place(version))
        return
    for path in partial.iterdir():  # an earlier decision was on the same candidate, so that its files are the same
        known = place(version) / path.name
        if path.is_file():
            path.replace(known)
        elif not known.exists() or provenance.digest(known) != provenance.digest(path):
            shutil.rmtree(known, ignore_errors=True)
            path.rename(known)
    shutil.rmtree(partial)


def check(version: int, files: Mapping[str, str]) -> None:
    """Raise ValueError unless the store holds these folders of a version, by their hashes."""
    for kind, expected in files.items():
        folder = place(version) / kind
        if not folder.is_dir():
            raise FileNotFoundError(
                f"{folder} is missing: the files of version {version} are not in this workspace. Copy models/versions/ from "
                "where it was promoted."
            )
        if (found := provenance.digest(folder)) != expected:
            raise ValueError(
                f"{folder} does not hold version {version}: its hash is {found[:12]}, not {expected[:12]}."
            )


def point(version: int) -> None:
    """Let `models/champion` be this version, at once; no version at all for 0."""
    if version == 0:
        CHAMPION.unlink(missing_ok=True)
        return
    target = Path(FOLDER.name) / str(version)
    if CHAMPION.is_symlink() and CHAMPION.readlink() == target:
        return
    partial = CHAMPION.with_name(CHAMPION.name + ".partial")
    partial.unlink(missing_ok=True)
    partial.symlink_to(target)
    partial.replace(CHAMPION)


def _link(source: str, target: str) -> None:
    """The same bytes under another name; a copy where the disk cannot link. What the workspace links to is followed."""
    try:
        os.link(os.path.realpath(source), target)
    except OSError:
        shutil.copyfile(source, target)
