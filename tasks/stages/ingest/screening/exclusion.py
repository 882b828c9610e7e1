"""Leave out what settings exclude: what somebody asked to be forgotten."""

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
"""The place of a row without its file: `line 3`, `texts, row 3`."""
REVISION = re.compile(r"[0-9a-f]{7,12}(: .+)?")
"""The place of a file of a repository without that: `0123456789ab: a.py`. Ids are longer."""
FOLDER = re.compile(r"^folder (?:.*/)?| \([0-9a-f]{8}\)$")
"""All of the label of a folder but its name."""
KINDS = ("file", "folder", "repository")
"""The sources whose texts earlier releases named without them."""
SHOWN = 5
"""Entries without effect that are told by name."""
LEFT = {"reason": FORGOTTEN, "detail": NAMED, "record": ""}
"""What is left in the quarantine of a row that is to be forgotten."""


def resolved(config: IngestConfig, every_source: Sequence[Source], say: Callable[[str], None]) -> IngestConfig:
    """Return the settings with entries by the labels that sources have now. Raises ValueError for an entry that names no source.

    An entry that may lead to another source is told.
    """
    for entry in config.exclude:
        if alike := moved_labels(entry, every_source):
            raise ValueError(
                f"ingest.exclude: {entry}: no source has this label, as where a folder or file was moved, and what was forgotten would come "
                f"back. Write it with the label of now, {' or '.join(f'`{one}`' for one in alike)}, or remove the entry if its source is gone."
            )
    exclude = as_labelled(config.exclude, every_source)
    check(exclude, ((one.path.resolve().name, label(one)) for one in every_source if isinstance(one, Folder)))
    for entry in config.exclude:
        if named_alike(entry, every_source):
            say(
                f"ingest.exclude: {entry}: several sources are of that name, and it means that which is the first of them. "
                f"Now this is `{as_lasting(entry, every_source)}`: write that, so that it stays."
            )
    return config.model_copy(update={"exclude": exclude})


def check(exclude: Iterable[str], folders: Iterable[tuple[str, str]] = ()) -> None:
    """Raise ValueError for an entry that names a row and no file, a revision and no repository, or one of the folders by its name alone.

    The folders are pairs of a name and a label. Earlier releases wrote places so, and left out that row of every table of texts, and the
    modules of every folder of that name.
    """
    entries = sorted(exclude)
    if bare := list(filter(BARE_ROW.fullmatch, entries)):
        raise _unplaced(bare[0], "file", f"file NAME: {bare[0]}")
    # Beside the folder itself its name alone was for its modules, which go with it now.
    beside = {FOLDER.sub("", entry) for entry in entries if FOLDER.match(entry)}
    bare = [entry for entry in entries if entry not in beside]
    for entry, (name, labelled) in product(bare, sorted(folders)):
        if entry.partition(":")[0] == name:
            raise _unplaced(entry, "folder", f"{labelled}{entry.removeprefix(name)}")
    if bare := list(filter(REVISION.fullmatch, bare)):
        raise _unplaced(bare[0], "repository", f"repository PATH: {bare[0].partition(': ')[2] or 'FILE'}")


def check_documents(items: Iterable[Sourced[Document]], exclude: Collection[str]) -> None:
    """Raise ValueError for an entry that names the file of a text and not its folder, as earlier releases wrote it."""
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
    """Refuse records that an entry names, by id or by place."""
    entries = frozenset(exclude)
    if not entries:
        return {}
    reasons = {}
    for position, (_, record) in enumerate(items):
        identities = sorted(entries.intersection(ids_uncut(record))) if isinstance(record, Document) else []
        # Its ids are told beside its place: an entry of which none is told is said to have named nothing, and may be taken out.
        if identities or record.id in entries or not entries.isdisjoint(beginnings(record.source)):
            reasons[position] = (FORGOTTEN, f"{NAMED}{AS}{' '.join(identities)}" if identities else NAMED)
    return reasons


def forgotten(refusal: Refusal, exclude: Collection[str]) -> Refusal:
    """Return the refusal of a row that became no document, with nothing left of it but its place where an entry names that.

    The place stands in both columns, or in `where` alone.
    """
    for place in (refusal.where, f"{refusal.source}: {refusal.where}"):
        if not set(beginnings(place)).isdisjoint(exclude):
            return replace(refusal, source="", where=place, **LEFT)
    return refusal


def without_effect(exclude: Collection[str], refusals: pl.LazyFrame) -> Iterator[str]:
    """Yield a sentence if entries named nothing of what was read, by the refusals of all of it."""
    rows = refusals.filter(pl.col("reason") == FORGOTTEN).select("id", "source", "where", "detail").collect()
    left = set(exclude)
    for identity, source, where, detail in rows.iter_rows():
        left -= {identity, *detail.partition(AS)[2].split(), *beginnings(where), *beginnings(f"{source}: {where}")}
    if left:
        shown = ", ".join(sorted(left)[:SHOWN]) + (f" and {len(left) - SHOWN} more" if len(left) > SHOWN else "")
        yield f"ingest.exclude has what named nothing that was read; it is gone, or has another place or text: {shown}."


def without_named(refusals: pl.DataFrame, exclude: Collection[str]) -> pl.DataFrame:
    """Return a table of refusals in which nothing is left of the rows that an entry names, whatever they were refused for."""
    named = with_places(refusals.lazy()).select(is_named(exclude, PLACE)).collect().to_series()
    return refusals.with_columns(
        pl.when(named).then(pl.lit(value)).otherwise(pl.col(name)).alias(name) for name, value in LEFT.items()
    )


def with_places(refusals: pl.LazyFrame) -> pl.LazyFrame:
    """Return a table of refusals with the places of their records. That of a row that became no record stands in two columns."""
    of_row = pl.format("{}: {}", "source", "where")
    return refusals.with_columns(pl.when(pl.col("id") == "").then(of_row).otherwise("where").alias(PLACE))


def is_named(exclude: Collection[str], place: str) -> pl.Expr:
    """Return an expression that is True where an entry names the record of a row, by column `id` or by column `place`, as `refused` has it."""
    entries = sorted(exclude)
    colons = sorted({entry.count(":") for entry in entries})
    begins = [pl.col(place).str.extract(rf"^((?:[^:]*:){{{number}}}[^:]*)(?::|$)") for number in colons]
    return pl.any_horizontal(name.is_in(entries).fill_null(value=False) for name in (pl.col("id"), *begins))


def beginnings(place: str) -> list[str]:
    """Return a place and how it begins up to each colon: of `a.jsonl: line 3` also `a.jsonl`."""
    parts = place.split(":")
    return [":".join(parts[:number]) for number in range(1, len(parts) + 1)]
