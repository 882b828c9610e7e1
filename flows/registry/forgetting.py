"""Forget an example, a document or a source: list everything that it reached, and exclude it from later runs.

What it reached follows from the tables, by ids, parents and places, and from the lock files of this workspace and of each version. Weights
that were trained on it hold it until they are trained anew: nothing takes it out of them.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from flows.execution import workspace
from flows.execution.dvc import cache, lock_file, lock_graph
from flows.project import config_editing
from flows.registry import history, versions
from flows.registry.evidence import layout
from tasks import configuration
from tasks.core.records import content_id
from tasks.io.weights import checkpoints
from tasks.stages.ingest.reading import sources

TABLES = ("data/ingested/*.parquet", "data/rounds/*/examples.parquet")
TRAINING = ("tune", "pretrain")
CHUNK_MARK = " §"
"""The suffix of the place of a document that was cut into pieces, before the number of the piece."""
ROW = r": ([^:]*, )?(line|row) \d+$"
"""The suffix of the place of a table's row."""
PLACED = r"^(file|folder|repository) "
"""The prefix of the places of texts; earlier releases wrote the file or row without it."""
CACHES = {
    "ingest": "rows and texts as they were read; the next `ratchet run ingest` removes what it does not use",
    "tokens": "texts as tokens; what nothing opens for 30 days goes",
    "answers": "what models answered to its prompt",
    "banks": "adapters of banks, trained on it: remove the folder, and the next run trains those that are left",
}
"""Folders below `.ratchet/cache` that may hold its text → the kind of its data that they hold."""
FOLDERS = {
    workspace.SCRATCH / "work": "unfinished trainings: remove it while nothing runs",
    workspace.SCRATCH / "compare": "trials of comparisons and sweeps, trained on it: remove the folder",
    layout.FOLDER: "evidence of versions, with results by item: remove that of the versions named above",
}
"""Other folders that may hold it → the kind of its data that they hold."""


@dataclass(frozen=True)
class Match:
    """The rows of a table that are forgotten, or were made from forgotten ones."""

    table: Path
    ids: frozenset[str]
    groups: frozenset[str]


@dataclass(frozen=True)
class Reach:
    """Everything that the forgotten data have reached."""

    exclude: Sequence[str]
    """The entries of `ingest.exclude` that leave the data out."""
    matches: Sequence[Match]
    models: Sequence[str]
    """Folders of this workspace with weights that were trained on the data."""
    unknown: Sequence[str]
    """Folders with weights without a record of the data that they were trained on."""
    versions: Mapping[int, bool | None]
    """Promoted version → True if it was trained on the data; None if its training data are not recorded or not in DVC's cache."""
    caches: Sequence[tuple[str, str]]
    """Other places that may hold the text, and how to remove it there."""

    @property
    def rounds(self) -> list[str]:
        """The rounds whose examples hold the data or were made from them."""
        return sorted({match.table.parent.name for match in self.matches if match.table.parent.parent.name == "rounds"})


def find(name: str) -> Reach:
    """Return everything that an id, a place or a source has reached. Raises ValueError if no table holds it.

    A source is named as in column `source` (`file chats.jsonl`), or by the path of its file or folder; a file in a folder by its path.
    """
    tables = _tables(sorted(path for pattern in TABLES for path in Path().glob(pattern)))
    every_source = _sources()
    targets = _targets(name, every_source, tables)
    if not targets:
        raise ValueError(
            f"No table holds {name!r}: it is the id of no example or document, and no place that one comes from. `ratchet data search` finds ids; "
            "column `source` has places."
        )
    matches = _matches(tables, set(targets), set(targets))
    by_hash = _held_by_hash(matches)
    lock = lock_file.stages()
    trained = {str(path): _trained_on(lock, path, by_hash) for path in _model_folders()}
    return Reach(
        exclude=list(dict.fromkeys(sources.as_lasting(entry, every_source) for entry in _entries(targets, tables))),
        matches=matches,
        models=[path for path, is_trained in trained.items() if is_trained],
        unknown=[path for path, is_trained in trained.items() if is_trained is None],
        versions={number: _reached_version(number, targets, matches, by_hash) for number in history.read().promoted},
        caches=list(_caches()),
    )


def exclude(entries: Sequence[str], params: Path = configuration.PARAMS) -> list[str]:
    """Add entries to `ingest.exclude` of params.yaml, and return those that were not there."""
    known = configuration.load(params).model_dump()["ingest"]["exclude"]
    new = [entry for entry in entries if entry not in known]
    if new:
        with config_editing.edited_config(params) as tree:
            tree["ingest"].setdefault("exclude", [])
            tree["ingest"]["exclude"] += new
    return new


def _sources() -> list[Any]:
    config: Any = configuration.load()
    every_source = sources.all_sources(config.ingest)
    sources.tell_apart(every_source)
    return every_source


def _targets(name: str, every_source: Sequence[Any], tables: Mapping[Path, pl.DataFrame]) -> list[str]:
    """Return the ids and places that a name stands for; none if no table holds it.

    These are its own, its place in a folder that is a source, and all labels of the sources with this path, those whose rows were refused
    too; without such a source the places of a like name.
    """
    path = Path(name)
    labels = [label for one in every_source for label in sources.labels_at(one, path)]
    shown = path.name if path.is_absolute() else path
    others = {sources.label(one) for one in every_source} if path.is_absolute() else set()
    alike = [place for kind in ("file", "folder", "repository") if (place := f"{kind} {shown}") not in others]
    own = sources.as_labelled([name], every_source)
    below = [file for one in every_source if (file := sources.place_at(one, path))]
    held = [place for place in dict.fromkeys([*own, *below, *(labels or alike)]) if _matches(tables, {place}, {place})]
    return held if set(held).isdisjoint(labels) else list(dict.fromkeys([*held, *labels]))


def _tables(paths: Iterable[Path]) -> dict[Path, pl.DataFrame]:
    return {path: rows for path in paths if (rows := _rows(path)) is not None}


def _matches(tables: Mapping[Path, pl.DataFrame], ids: Set[str], places: Set[str]) -> list[Match]:
    """Return the rows of each table that have one of these ids, come from one of the places, or descend from such rows."""
    forgotten = set(ids)
    while True:
        matches = [match for path, rows in tables.items() if (match := _match(path, rows, forgotten, places))]
        reached = {identity for match in matches for identity in match.ids}
        if reached <= forgotten:
            return matches
        forgotten |= reached


def _rows(path: Path) -> pl.DataFrame | None:
    """Return ids, places, groups and parents of a table; None if it holds other records."""
    table = pl.scan_parquet(path)
    columns = table.collect_schema().names()
    if not {"id", "source", "license"} <= set(columns):
        return None
    parents = pl.col("parents") if "parents" in columns else pl.lit(None, pl.List(pl.String)).alias("parents")
    place = pl.col("source").str.split(CHUNK_MARK).list
    return table.select("id", place.first(), "group", parents, is_cut=place.len() > 1).collect()


def _match(path: Path, rows: pl.DataFrame, ids: Set[str], places: Set[str]) -> Match | None:
    origin = pl.col("source")
    at_place = origin.is_in(list(places)) | pl.any_horizontal(origin.str.starts_with(f"{place}:") for place in places)
    from_parent = pl.col("parents").list.eval(pl.element().is_in(list(ids))).list.any()
    held = rows.filter(pl.col("id").is_in(list(ids)) | at_place | from_parent.fill_null(False))
    return Match(path, frozenset(held["id"]), frozenset(held["group"])) if len(held) else None


def _entries(targets: Sequence[str], tables: Mapping[Path, pl.DataFrame]) -> list[str]:
    """Return what `ingest.exclude` has to name: the targets, and for a document also its place, which still matches after the file was
    edited.

    If a row is inserted above a table's row, its place changes, and often its id, so the id of its text is named. For a row that was cut
    into pieces the place is named, since the text of a piece is not the text that is read.
    """
    entries = set()
    for path in (path for path in tables if path.stem.endswith("_documents")):
        named = tables[path].filter(pl.col("id").is_in(targets))
        is_row = pl.col("source").str.contains(ROW) & ~pl.col("is_cut")
        entries |= set(named.filter(~is_row)["source"])
        ids = named.filter(is_row)["id"]
        texts = pl.scan_parquet(path).filter(pl.col("id").is_in(list(ids))).select("text").collect()["text"]
        entries |= {content_id(text) for text in texts}
    return sorted(entries) or list(targets)


def _held_by_hash(matches: Sequence[Match]) -> set[str]:
    """Return the hashes of the tables that hold the data, as in dvc.lock."""
    held = {match.table.as_posix() for match in matches}
    deps = (lock_graph.hashes(entry, kind) for entry in lock_file.stages().values() for kind in ("deps", "outs"))
    return {digest for hashes in deps for path, digest in hashes.items() if path in held}


def _model_folders() -> list[Path]:
    """Return all models of this workspace except versions, even those that `models` of params.yaml does not name."""
    folders = {Path(model.path) for model in configuration.load().models.values()}
    folders |= {card.parent for card in Path("models").rglob(checkpoints.CARD)}
    elsewhere = {versions.FOLDER, layout.FOLDER}
    return sorted(folder for folder in folders if folder.is_dir() and elsewhere.isdisjoint(folder.parents))


def _training_tables(
    lock: Mapping[str, Mapping[str, Any]], model: Path, card: Mapping[str, Any]
) -> dict[str, str] | None:
    """Return the tables that a model's trainings read, with their hashes; None if neither dvc.lock nor its card says how it was made.

    The trainings of a merged model are those of its experts.
    """
    stages = lock_graph.upstream(lock, [model.as_posix()])
    if not stages:
        experts = [Path(expert["path"]) for expert in card.get("merge", {}).get("experts", [])]
        parts = [_training_tables(lock, path, checkpoints.read_card(path)) for path in experts]
        known = [part for part in parts if part is not None]
        return (
            {path: digest for part in known for path, digest in part.items()} if len(known) == len(parts) > 0 else None
        )
    trainings = [lock[stage] for stage in stages if _trains(stage, lock[stage])]
    return {
        path: digest
        for entry in trainings
        for path, digest in lock_graph.hashes(entry, "deps").items()
        if path.endswith(("train_documents.parquet", "examples.parquet"))
    }


def _trains(stage: str, entry: Mapping[str, Any]) -> bool:
    """Return True if a stage trained. With no tokens, `pretrain` hands on its base unchanged."""
    name = stage.partition("@")[0]
    settings = entry.get("params", {}).get(configuration.PARAMS.name, {}).get(name, {})
    return name in TRAINING and settings.get("max_tokens") != 0


def _trained_on(lock: Mapping[str, Mapping[str, Any]], model: Path, by_hash: set[str]) -> bool | None:
    tables = _training_tables(lock, model, checkpoints.read_card(model))
    return None if tables is None else not by_hash.isdisjoint(tables.values())


def _reached_version(number: int, targets: Sequence[str], matches: Sequence[Match], by_hash: set[str]) -> bool | None:
    """Return True if a version was trained on the data, by its training tables; None if these are not known or not in DVC's cache."""
    folder = versions.folder(number)
    if not (folder / layout.LOCK).is_file() or not (folder / "candidate.json").is_file():
        return None
    lock = lock_file.stages(folder / layout.LOCK)
    origins = layout.read_json(folder / "candidate.json")["files"]
    parts = [
        _training_tables(lock, Path(file["path"]), checkpoints.read_card(folder / kind))
        for kind, file in origins.items()
    ]
    tables = {path: digest for part in parts if part is not None for path, digest in part.items()}
    if not by_hash.isdisjoint(tables.values()):
        return True
    if None in parts:
        return None
    try:
        kept = [cache.file(digest) for digest in tables.values()]
    except FileNotFoundError:
        return None
    known = {identity for match in matches for identity in match.ids}
    of_then = _tables(kept)
    if _matches(of_then, {*targets, *known}, set(targets)):
        return True
    groups = {group for match in matches for group in match.groups}
    earlier = (rows.filter(~pl.col("source").str.contains(PLACED)) for rows in of_then.values())
    # Places without a source do not identify a file, but a common group shows that it may be the same one.
    return None if any(rows["group"].is_in(list(groups)).any() for rows in earlier) else False


def _caches() -> Iterator[tuple[str, str]]:
    for name, contents in CACHES.items():
        folder = workspace.SCRATCH / "cache" / name
        if folder.is_dir():
            yield str(folder), contents
    for folder, contents in FOLDERS.items():
        if folder.is_dir():
            yield str(folder), contents
    yield (
        "DVC's cache",
        "earlier tables and models: `dvc gc --workspace` after the next run, and with `--cloud` in the remote",
    )
    yield "other machines", "what stages there were given (`resources.*.host`): removed a week after its last use"
    yield "backups", "what `ratchet backup` saved: make a new backup, and remove the earlier ones"
    yield "MLflow", "traces and reports of its runs, with texts where `RATCHET_TRACES` asked for them"
    yield "data/raw and other sources", "the original, which you delete yourself"
    yield "git", "review decisions with its text, and files in data/raw that git tracks, stay in its history"
