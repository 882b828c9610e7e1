"""Compare a workspace after a run with an undisturbed one, and list the problems."""

import hashlib
import json
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

SCRATCH = {".git", ".ratchet", ".dvc", "home", "__pycache__", "mlflow.db", "mlflow.db-wal", "mlflow.db-shm"}
"""Files and folders without artifacts; they are checked separately."""
TEMPORARY = ("*.partial", "*.tmp", "*.torn", "*.new", "*.unfinished")
LEAVES = ("spool/*.jsonl", "spool/*.new", "spool/*.sent", "locks/*-*.lock", "made/*.partial", "*.partial")
"""Files of `.ratchet` that belong to unfinished work."""


def problems(folder: Path, undisturbed: Path, stages: Sequence[str], order: Sequence[str] = ()) -> list[str]:
    """Return all differences to the undisturbed workspace, in which `stages` were run; empty if there are none.

    With `order`, the stages of `dvc.lock` must stand in that order, as a flow leaves them.
    """
    looks = (_lock(folder, undisturbed, stages, order), _artifacts(folder, undisturbed, stages), _cache(folder))
    return [problem for look in (*looks, leftovers(folder), runs(folder, stages)) for problem in look]


def entries(folder: Path) -> dict[str, Any]:
    """Return the entries of dvc.lock: stage → inputs and outputs."""
    return dict((yaml.load((folder / "dvc.lock").read_text(), yaml.CSafeLoader) or {}).get("stages", {}))


def _lock(folder: Path, undisturbed: Path, stages: Sequence[str], order: Sequence[str]) -> Iterator[str]:
    actual, expected = entries(folder), entries(undisturbed)
    for stage in stages:
        if stage not in actual:
            yield f"dvc.lock: no entry of {stage}"
    for stage, entry in actual.items():
        if entry != expected[stage]:
            yield f"dvc.lock: {stage} is not that of an undisturbed run"
    if order and list(actual) != [stage for stage in order if stage in actual]:
        yield f"dvc.lock: in the order {', '.join(actual)}"


def _artifacts(folder: Path, undisturbed: Path, stages: Sequence[str]) -> Iterator[str]:
    """Yield outputs whose bytes differ, and unexpected files."""
    paths = [Path(out["path"]) for entry in entries(folder).values() for out in entry.get("outs", [])]
    lost = [path for path in paths if not (folder / path).exists()]
    yield from (f"{path}: is missing" for path in lost)
    for path in sorted(set(paths) - set(lost)):
        if _hashes(folder / path) != _hashes(undisturbed / path):
            yield f"{path}: other bytes than those of an undisturbed run"
    known = {str(path) for path in paths}
    for path in files(folder):
        name = path.relative_to(folder)
        if known & {str(part) for part in (name, *name.parents)} or (undisturbed / name).exists():
            continue
        yield f"{name}: nobody should have left it"


def files(folder: Path) -> Iterator[Path]:
    """Yield the files of a workspace, without scratch folders and databases."""
    for path in sorted(folder.iterdir()):
        if path.name in SCRATCH or path.suffix == ".pyc":
            continue
        if path.is_dir() and not path.is_symlink():
            yield from files(path)
        else:
            yield path


def _hashes(path: Path) -> dict[str, str]:
    parts = [path] if path.is_file() else [part for part in path.rglob("*") if part.is_file()]
    return {str(part.relative_to(path)): hashlib.sha256(part.read_bytes()).hexdigest() for part in parts}


def _cache(folder: Path) -> Iterator[str]:
    """Yield objects of DVC's cache whose bytes do not match their names."""
    cache = folder / ".dvc/cache/files/md5"
    for path in sorted(cache.rglob("*")):
        if path.is_file() and path.parent.name + path.name.removesuffix(".dir") != _md5(path):
            yield f"{path.relative_to(folder)}: does not hold what its name says"


def _md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()


def leftovers(folder: Path) -> Iterator[str]:
    """Yield what an unfinished run has left."""
    for pattern in TEMPORARY:
        for path in (*folder.glob(pattern), *(folder / "data").rglob(pattern), *(folder / "models").rglob(pattern)):
            yield f"{path.relative_to(folder)}: left over"
    for pattern in LEAVES:
        for path in (folder / ".ratchet").glob(pattern):
            yield f"{path.relative_to(folder)}: left over"
    table = folder / ".dvc/tmp/rwlock"
    if table.exists() and any(json.loads(table.read_text()).values()):
        yield f"DVC's table of paths in use is not empty: {table.read_text()[:200]}"


def runs(folder: Path, stages: Sequence[str]) -> Iterator[str]:
    """Yield MLflow runs that read RUNNING, and stages without a run that FINISHED."""
    with sqlite3.connect(folder / "mlflow.db") as store:
        for name, status in store.execute("select name, status from runs where status = 'RUNNING'"):
            yield f"MLflow: {name} reads {status}"
        finished = store.execute(
            "select tags.value from tags join runs using (run_uuid) where key = 'dvc.stage' and status = 'FINISHED'"
        )
        known = {stage for (stage,) in finished}
    store.close()
    yield from (f"MLflow: no finished run of {stage}" for stage in stages if stage not in known)
