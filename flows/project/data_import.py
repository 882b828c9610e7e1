"""Import a user's own data: detect its kind, copy it to data/raw/, and name it in params.yaml."""

import filecmp
import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from flows.project import config_editing
from tasks.core.split_names import named_split, split_of_file
from tasks.core.text.visible import has_password
from tasks.io import config_file
from tasks.io.sources import databases, folders, places, table
from tasks.io.system import files

RAW = Path("data/raw")
SAVED = ("dataset_info.json", "dataset_dict.json")
"""Files that mark a folder written by `save_to_disk` of `datasets`."""
IGNORED = ("__pycache__", "*.pyc", ".git", ".venv", "node_modules", ".*_cache")

FORMATS = (
    "Tables are taken as JSON lines, JSON, CSV, Excel or Parquet, texts as a file or a folder, Python as a folder."
)


@dataclass(frozen=True)
class Sources:
    """The sources of examples and of the corpus, as entries of params.yaml."""

    examples: tuple[dict[str, Any], ...]
    corpus: tuple[dict[str, Any], ...]
    files: tuple[str, ...] = ()
    """The formats of the files with their counts, and the names of files that are not read."""

    def moved(self, old: Path, new: Path) -> "Sources":
        """Return these sources with the data at another path."""

        def move(source: dict[str, Any]) -> dict[str, Any]:
            key = "database" if source["from"] == "query" else "path"
            return source | {key: (new / Path(source[key]).relative_to(old)).as_posix()}

        return replace(self, examples=tuple(map(move, self.examples)), corpus=tuple(map(move, self.corpus)))

    def as_json(self) -> str:
        """Return the sources in the form that the preview reads."""
        return json.dumps({"examples": self.examples, "texts": self.corpus})

    def with_columns(self, columns: Mapping[str, str]) -> "Sources":
        """Return these sources with the columns of their tables named."""
        return replace(
            self,
            examples=tuple(
                source | {"columns": dict(columns)} if source["from"] in ("file", "query", "datasets") else source
                for source in self.examples
            ),
        )

    def answered(self, guesses: list[dict[str, Any] | None]) -> "Sources":
        """Return these sources with the guessed columns. A table with only texts goes to the corpus, unless it is held out."""
        examples, corpus, described = [], list(self.corpus), list(self.files)
        for source, guess in zip(self.examples, guesses, strict=True):
            if not (guess and guess["text"]):
                settings = {name: guess[name] for name in ("columns", "thread") if guess[name]} if guess else {}
                examples.append(source | settings)
            elif split := source.get("held_out"):
                described.append(
                    f"{Path(source['path']).name}: left out: its rows are texts for {split}, and a corpus draws those from its own"
                )
            else:
                header = {name: source[name] for name in ("header",) if name in source}
                corpus.append({"from": "file", "path": source["path"], "text": guess["text"]} | header)
        return replace(self, examples=tuple(examples), corpus=tuple(corpus), files=tuple(described))

    def with_splits(self, columns: Sequence[str | None]) -> "Sources":
        """Return these sources with the columns that name the splits of their rows."""
        examples = tuple(
            source | {"split_by": column} if column else source
            for source, column in zip(self.examples, columns, strict=True)
        )
        return replace(self, examples=examples)

    def with_groups(self, columns: Sequence[str | None]) -> "Sources":
        """Return these sources with the columns whose equal values stay in one split."""
        examples = tuple(
            source | {"group": column} if column else source
            for source, column in zip(self.examples, columns, strict=True)
        )
        return replace(self, examples=examples)

    def checked(self, checks: Sequence[Mapping[str, Any] | None]) -> "Sources":
        """Return these sources with the checks that the preview proposes for their answers."""
        examples = tuple(
            source | {"check": proposal["check"]} if proposal and proposal["check"] else source
            for source, proposal in zip(self.examples, checks, strict=True)
        )
        return replace(self, examples=examples)


@contextmanager
def on_disk(place: str) -> Iterator[Path | None]:
    """Yield the path of a file or folder. Remote data (`https://…`, `s3://…`) are downloaded to a temporary folder.

    For a database on a server, yield None. Raises ValueError if no place is given.
    """
    if not place.strip():
        raise ValueError("No data are named: give the path of a file or folder, or an address.")
    if databases.is_on_server(place):
        yield None
        return
    if not places.is_url(place):
        yield Path(place).expanduser()
        return
    with tempfile.TemporaryDirectory(prefix="ratchet-") as folder:
        copy = Path(folder) / places.name_of(place)
        places.download(place, copy)
        yield copy


def detect_on_server(address: str, query: str | None) -> Sources:
    """Return the source of a query to PostgreSQL. Raises ValueError without one, and if the address holds a password."""
    name = databases.shown(address)
    if has_password(address):
        raise ValueError(f"{name}: the address holds a password: set PGPASSWORD, or write it to ~/.pgpass.")
    if query is None:
        raise ValueError(_ask_for_query(name, databases.tables(address)))
    return Sources(({"from": "query", "database": address, "query": query},), (), (f"{name}: PostgreSQL",))


def detect(path: Path, query: str | None = None, header: bool | None = None) -> Sources:
    """Return the sources at `path`; for a database, the source with this query.

    `header` says whether the first row of CSV and Excel tables names the columns; with None, this is detected. Raises FileNotFoundError or
    ValueError if there is nothing to train on, or if `header` is given and no table may lack one.
    """
    if not path.exists():
        raise files.missing(path)
    if path.resolve() in (*RAW.absolute().parents, *RAW.resolve().parents):
        raise ValueError(
            f"{path} contains {RAW} of this workspace, where data are copied to. Name the folder of your data alone."
        )
    if path.is_file():
        role = folders.role(path)
        if role == "database":
            return _database(path, query)
        if role == "text":
            line = f"{path.name}: {table.describe(path)}: taken into the corpus"
            return _with_header(Sources((), (_source("folder", path),), (line,)), path, [], header)
        if role != "table":
            raise ValueError(f"{path}: expected a table, a text or a folder, found {table.describe(path)}. {FORMATS}")
        line = f"{path.name}: {table.describe(path, header)}"
        return _with_header(Sources((_source("file", path),), (), (line,)), path, [path], header)
    if any((path / mark).is_file() for mark in SAVED):
        return _saved(path)
    roles = {file: folders.role(file) for file in folders.walk(path)}
    described = _described(path, roles, header)
    tables = [file for file, role in roles.items() if role == "table"]
    examples = _by_split(path, tables) if tables else []
    described += tuple(
        f"{Path(source['path']).relative_to(path)}: held out for {source['held_out']}, as its name says"
        for source in examples
        if "held_out" in source
    )
    has_python = any(role == "code" and file.suffix == ".py" for file, role in roles.items())
    has_text = "text" in roles.values()
    if has_python:
        examples.append(_source("folder", path) | {"functions": "documented"})
    if not examples and not has_text:
        raise ValueError(
            f"{path}: none of its {len(roles)} files is a table, Python or a text. {' '.join([*described, FORMATS])}"
        )
    sources = Sources(tuple(examples), (_source("folder", path),) if has_python or has_text else (), described)
    return _with_header(sources, path, tables, header)


def _with_header(sources: Sources, place: Path, tables: Sequence[Path], header: bool | None) -> Sources:
    """Return the sources with the option `header` of their tables, if it is given."""
    if header is None:
        return sources
    if not any(map(table.may_lack_header, tables)):
        raise ValueError(
            f"{place}: only CSV and Excel tables may lack a header, and there is none here: leave out --{'' if header else 'no-'}header."
        )
    return replace(
        sources,
        examples=tuple(
            source | {"header": header} if source["from"] == "file" else source for source in sources.examples
        ),
    )


def _by_split(path: Path, tables: Sequence[Path]) -> list[dict[str, Any]]:
    """Return the tables of a folder as one source, or as one source for each split if the names of files mark held-out ones."""
    splits = {file: split_of_file(file.name) for file in tables}
    held_out = {file: split for file, split in splits.items() if split not in (None, "train")}
    if not held_out or len(held_out) == len(tables):
        return [_source("file", path)]
    of_split: defaultdict[tuple[Path, str | None], list[Path]] = defaultdict(list)
    for file in tables:
        of_split[file.parent, splits[file]].append(file)
    one_domain = {"domain": path.name}
    return [
        _source("file", place) | one_domain | ({"held_out": split} if split not in (None, "train") else {})
        for (_, split), alike in of_split.items()
        for place in _together(alike)
    ]


def _together(alike: Sequence[Path]) -> Sequence[Path]:
    """Return one pattern for files that differ only in numbers, if it matches exactly these files; else the files."""
    pattern, *others = {file.with_name(re.sub(r"\d+", "*", file.name)) for file in alike}
    if len(alike) == 1 or others or sorted(pattern.parent.glob(pattern.name)) != sorted(alike):
        return alike
    return [pattern]


def _saved(path: Path) -> Sources:
    """Return the sources of a data set that `datasets` saved: its training split (without one, the first split), and the splits whose names mark
    them as held out."""
    marks = path / "dataset_dict.json"
    try:
        splits = json.loads(marks.read_text(encoding="utf-8"))["splits"] if marks.is_file() else []
    except (ValueError, KeyError, TypeError):
        raise ValueError(
            f"{marks}: no data set was saved here, or it is damaged: the list of its splits is missing."
        ) from None
    first = "train" if "train" in splits or not splits else splits[0]
    held_out = {
        split: held for split in splits if split != first and (held := named_split(split)) not in (None, "train")
    }
    others = [split for split in splits if split != first and split not in held_out]
    source = _source("datasets", path)
    sources = [source | ({} if first == "train" else {"split": first})]
    sources += [source | {"split": split, "held_out": held} for split, held in held_out.items()]
    told = [f"{path.name}: split {split} is held out for {held}" for split, held in held_out.items()]
    if others:
        told.append(
            f"{path.name}: split {first} is taken, {', '.join(others)} not: add it as a source with `split`, or to `ingest.benchmarks`"
        )
    return Sources(tuple(sources), (), tuple(told))


def preview(sources: Sources, limits: Sequence[int] = ()) -> dict[str, Any]:
    """Return a preview of the result of stage `ingest` for these sources, with the given limits of lengths instead of the defaults.

    It runs in a separate process, because flows do not import stages.
    """
    command = [sys.executable, "-m", "tasks.stages.ingest.preview.command", *map(str, limits)]
    answer = subprocess.run(command, input=sources.as_json(), capture_output=True, text=True, check=False)
    if answer.returncode:
        raise ValueError(answer.stderr.strip().splitlines()[-1] if answer.stderr.strip() else "the preview ended early")
    return dict(json.loads(answer.stdout))


def copy_data(path: Path) -> Path:
    """Copy the data to data/raw/ and return their path there. Data that are already there, or equal to those there, are not copied."""
    if path.resolve().is_relative_to(RAW.resolve()):
        return RAW / path.resolve().relative_to(RAW.resolve())
    target = RAW / path.resolve().name
    if _is_copy(target, path):
        return target
    if target.exists():
        raise ValueError(
            f"{target} is there already and differs from {path}. Remove it, or name it in place of {path}."
        )
    with files.atomic_path(target) as copy:
        if path.is_dir():
            shutil.copytree(path, copy, ignore=_left_out)
        else:
            shutil.copyfile(path, copy)
    return target


def own_places(params: Path) -> list[str]:
    """Return the paths of a user's own data in a settings file. Data of profiles are in params/, and packages have no path."""
    ingest = config_file.parse(params)[0]["ingest"]
    named = [*ingest["sources"], *((ingest.get("corpora") or {}).get("domain") or ())]
    every = [str(source.get("path") or source.get("database") or "") for source in named]
    return [place for place in dict.fromkeys(every) if place and not place.startswith("params/")]


def write_sources(sources: Sources, params: Path, start: Path | None = None) -> list[str]:
    """Write these sources into a settings file, keeping its comments and other settings, or those of `start`. Return the changed keys."""
    changed = []
    with config_editing.edited_config(params, start) as tree:
        if sources.examples:
            tree["ingest"]["sources"] = list(sources.examples)
            tree["ingest"].ca.items.pop("sources", None)  # the comment was about the previous sources
            changed.append("ingest.sources")
            tree["ingest"].setdefault("splits", {})["by"] = "name"  # because users add data
            changed.append("ingest.splits.by")
        tree["ingest"].setdefault("corpora", {})["domain"] = list(sources.corpus)
        changed.append("ingest.corpora.domain")
    return changed


def _database(path: Path, query: str | None) -> Sources:
    """Return the source of a database: the query, or all rows of its only table."""
    names = databases.tables(str(path))
    if query is None and len(names) != 1:
        raise ValueError(_ask_for_query(str(path), names))
    if query is None:
        name = names[0].replace('"', '""')
        query = f'SELECT * FROM "{name}" ORDER BY rowid'
    source = {"from": "query", "database": path.as_posix(), "query": query}
    return Sources((source,), (), (f"{path.name}: {table.describe(path)}, {', '.join(names)}",))


def _ask_for_query(name: str, tables: Sequence[str]) -> str:
    return (
        f"{name}: this database has the tables {', '.join(tables) or 'none'}. Say what to read of it:\n"
        '  --query "SELECT … FROM … ORDER BY …"'
    )


def _is_copy(target: Path, path: Path) -> bool:
    """Return True if the data at a path equal a copy of these data."""
    if not (target.is_dir() and path.is_dir()):
        return target.is_file() and path.is_file() and filecmp.cmp(target, path, shallow=False)
    names, copied = ({file.name for file in folder.iterdir()} for folder in (target, path))
    copied -= _left_out(str(path), [*copied])
    return names == copied and all(_is_copy(target / name, path / name) for name in names)


def _left_out(folder: str, names: list[str]) -> set[str]:
    """Return the names that are not copied: files of tools, and links, which may point out of the folder."""
    links = {name for name in names if (Path(folder) / name).is_symlink()}
    return links | shutil.ignore_patterns(*IGNORED)(folder, names)


def _described(folder: Path, roles: Mapping[Path, folders.Role], header: bool | None) -> tuple[str, ...]:
    """Return a line for each use of files, for each table, and for each unused file."""
    lines = []
    numbers = Counter(roles.values())
    for file, role in roles.items():
        name = file.relative_to(folder).as_posix()
        if file.is_symlink():
            lines.append(f"{name}: left out: a link")
        elif role == "table":
            lines.append(f"{name}: {_describe(file, header)}")
        elif role == "database":
            lines.append(f"{name}: left out: a database; name a query of it as a source in params.yaml")
        elif role == "other":
            lines.append(f"{name}: left out: its format is none that is known")
    if numbers["text"]:
        lines.append(f"{numbers['text']} texts: taken into the corpus")
    python = sum(role == "code" and file.suffix == ".py" for file, role in roles.items())
    if python:
        lines.append(f"{python} files of Python: mined for functions and taken into the corpus")
    if other := numbers["code"] - python:
        lines.append(
            f"{other} files of other code: left out; a git repository of them is a source (`from: repository`)"
        )
    return tuple(lines)


def _describe(file: Path, header: bool | None) -> str:
    try:
        return table.describe(file, header)
    except (ValueError, OSError) as error:
        return f"cannot be read: {error}"


def _source(kind: str, path: Path) -> dict[str, Any]:
    return {"from": kind, "path": path.as_posix()}
