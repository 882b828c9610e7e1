"""Leave out the records that settings exclude, because somebody asked for them to be forgotten."""

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import product

import polars as pl

from tasks.core.records import Document, Example, Refusal
from tasks.stages.ingest.chunking import ids_uncut
from tasks.stages.ingest.config import Folder, IngestConfig, Source
from tasks.stages.ingest.quarantine import FORGOTTEN, Reasons, Sourced
from tasks.stages.ingest.reading.sources import as_labelled, as_lasting, label, moved_labels, named_alike

NAMED, AS = "ingest.exclude names it", " as "
PLACE = "place"
BARE_ROW = re.compile(r"[^:]*\b(line|row) \d+")
"""Matches the place of a row without its file: `line 3`, `texts, row 3`."""
REVISION = re.compile(r"[0-9a-f]{7,12}(: .+)?")
"""Matches the place of a file of a repository without the repository: `0123456789ab: a.py`. Ids are longer."""
FOLDER = re.compile(r"^folder (?:.*/)?| \([0-9a-f]{8}\)$")
"""Matches everything in the label of a folder except its name."""
KINDS = ("file", "folder", "repository")
"""The kinds of sources that earlier releases left out of the places of texts."""
SHOWN = 5
"""Most entries without effect that are reported by name."""
LEFT = {"reason": FORGOTTEN, "detail": NAMED, "record": ""}
"""The values that remain in the quarantine for a row that must be forgotten."""


def resolved(config: IngestConfig, every_source: Sequence[Source], say: Callable[[str], None]) -> IngestConfig:
    """Return the settings with the present labels of sources in the entries. Raises ValueError for an entry whose source has moved.

    An entry that may refer to several sources is reported.
    """
    for entry in config.exclude:
        if alike := moved_labels(entry, every_source):
            raise ValueError(
                f"ingest.exclude: {entry}: no source has this label, perhaps because a folder or file was moved, and what was forgotten would come "
                f"back. Write it with the present label, {' or '.join(f'`{one}`' for one in alike)}, or remove the entry if its source is gone."
            )
    exclude = as_labelled(config.exclude, every_source)
    check(exclude, ((one.path.resolve().name, label(one)) for one in every_source if isinstance(one, Folder)))
    for entry in config.exclude:
        if named_alike(entry, every_source):
            say(
                f"ingest.exclude: {entry}: several sources have this name, and the entry means the first of them. "
                f"Now this is `{as_lasting(entry, every_source)}`: write that, so that the meaning cannot change."
            )
    return config.model_copy(update={"exclude": exclude})


def check(exclude: Iterable[str], folders: Iterable[tuple[str, str]] = ()) -> None:
    """Raise ValueError for an entry with a row but no file, a revision but no repository, or a folder's name without its label.

    `folders` are pairs of a name and a label. Earlier releases wrote such places. They then left out that row of every table of texts, and
    the modules of every folder of that name.
    """
    entries = sorted(exclude)
    if bare := list(filter(BARE_ROW.fullmatch, entries)):
        raise _unplaced(bare[0], "file", f"file NAME: {bare[0]}")
    # If the folder itself is an entry too, its bare name meant its modules, which are now left out with the folder.
    beside = {FOLDER.sub("", entry) for entry in entries if FOLDER.match(entry)}
    bare = [entry for entry in entries if entry not in beside]
    for entry, (name, labelled) in product(bare, sorted(folders)):
        if entry.partition(":")[0] == name:
            raise _unplaced(entry, "folder", f"{labelled}{entry.removeprefix(name)}")
    if bare := list(filter(REVISION.fullmatch, bare)):
        raise _unplaced(bare[0], "repository", f"repository PATH: {bare[0].partition(': ')[2] or 'FILE'}")


def check_documents(items: Iterable[Sourced[Document]], exclude: Collection[str]) -> None:
    """Raise ValueError for an entry that names the file of a text without its source, as earlier releases wrote it."""
    for _, document in items if exclude else ():
        place, _, file = document.source.partition(": ")
        kind = place.partition(" ")[0]
        if file in exclude and kind in KINDS:
            raise _unplaced(file, kind, document.source)


def _unplaced(entry: str, kind: str, place: str) -> ValueError:
    return ValueError(
        f"ingest.exclude: {entry}: no {kind} is named. Write the place as column `source` has it, `{place}`, for each {kind} that is meant."
    )


def refused(items: Sequence[Sourced[Example | Document]], exclude: Collection[str]) -> Reasons:
    """Return the records that an entry names, by id or by place, with the reason."""
    entries = frozenset(exclude)
    if not entries:
        return {}
    reasons = {}
    for position, (_, record) in enumerate(items):
        identities = sorted(entries.intersection(ids_uncut(record))) if isinstance(record, Document) else []
        # The detail lists the matching ids, since an entry that matches no reported id or place is reported as without effect.
        if identities or record.id in entries or not entries.isdisjoint(beginnings(record.source)):
            reasons[position] = (FORGOTTEN, f"{NAMED}{AS}{' '.join(identities)}" if identities else NAMED)
    return reasons


def forgotten(refusal: Refusal, exclude: Collection[str]) -> Refusal:
    """Return the refusal of a row that became no document. If an entry names its place, only the place is left.

    The place is in the columns `source` and `where` together, or in `where` alone.
    """
    for place in (refusal.where, f"{refusal.source}: {refusal.where}"):
        if not set(beginnings(place)).isdisjoint(exclude):
            return replace(refusal, source="", where=place, **LEFT)
    return refusal


def without_effect(exclude: Collection[str], refusals: pl.LazyFrame) -> Iterator[str]:
    """Yield a sentence about entries that named no record that was read. `refusals` are all refusals."""
    rows = refusals.filter(pl.col("reason") == FORGOTTEN).select("id", "source", "where", "detail").collect()
    left = set(exclude)
    for identity, source, where, detail in rows.iter_rows():
        left -= {identity, *detail.partition(AS)[2].split(), *beginnings(where), *beginnings(f"{source}: {where}")}
    if left:
        shown = ", ".join(sorted(left)[:SHOWN]) + (f" and {len(left) - SHOWN} more" if len(left) > SHOWN else "")
        yield f"ingest.exclude has entries that name nothing that was read, because it is gone or has another place or text: {shown}."


def without_named(refusals: pl.DataFrame, exclude: Collection[str]) -> pl.DataFrame:
    """Return a table of refusals without the contents of rows that an entry names, whatever the reason of their refusal."""
    named = with_places(refusals.lazy()).select(is_named(exclude, PLACE)).collect().to_series()
    return refusals.with_columns(
        pl.when(named).then(pl.lit(value)).otherwise(pl.col(name)).alias(name) for name, value in LEFT.items()
    )


def with_places(refusals: pl.LazyFrame) -> pl.LazyFrame:
    """Return a table of refusals with the places of their records. For a row that became no record, the place is joined from two columns."""
    of_row = pl.format("{}: {}", "source", "where")
    return refusals.with_columns(pl.when(pl.col("id") == "").then(of_row).otherwise("where").alias(PLACE))


def is_named(exclude: Collection[str], place: str) -> pl.Expr:
    """Return an expression that is True for rows whose record an entry names, by the column `id` or the column `place`, like `refused`."""
    entries = sorted(exclude)
    colons = sorted({entry.count(":") for entry in entries})
    begins = [pl.col(place).str.extract(rf"^((?:[^:]*:){{{number}}}[^:]*)(?::|$)") for number in colons]
    return pl.any_horizontal(name.is_in(entries).fill_null(value=False) for name in (pl.col("id"), *begins))


def beginnings(place: str) -> list[str]:
    """Return a place and its beginnings up to each colon: for `a.jsonl: line 3` also `a.jsonl`."""
    parts = place.split(":")
    return [":".join(parts[:number]) for number in range(1, len(parts) + 1)]
