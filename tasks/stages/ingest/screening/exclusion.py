"""Leave out what settings exclude: what somebody asked to be forgotten."""

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace

import polars as pl

from tasks.core.records import Document, Example, Refusal
from tasks.stages.ingest.quarantine import FORGOTTEN, Reasons, Sourced

NAMED = "ingest.exclude names it"
PLACE = "place"
BARE_ROW = re.compile(r"[^:]*\b(line|row) \d+")
"""The place of a row without its file: `line 3`, `texts, row 3`."""
REVISION = re.compile(r"[0-9a-f]{7,12}(: .+)?")
"""The place of a file of a repository without that: `0123456789ab: a.py`. Ids are longer."""
LEFT = {"reason": FORGOTTEN, "detail": NAMED, "record": ""}
"""What is left in the quarantine of a row that is to be forgotten."""


def check(exclude: Iterable[str], folders: Collection[str] = ()) -> None:
    """Raise ValueError for an entry that names a row and no file, or a revision and no repository, unless that is the name of one of the folders.

    Earlier releases wrote the places of texts so, and left out that row of every table of texts.
    """
    entries = sorted(exclude)
    if bare := list(filter(BARE_ROW.fullmatch, entries)):
        raise _unplaced(bare[0], "file", f"file NAME: {bare[0]}")
    revisions = (entry for entry in entries if entry.partition(":")[0] not in folders)  # `20240101` may be a folder
    if bare := list(filter(REVISION.fullmatch, revisions)):
        raise _unplaced(bare[0], "repository", f"repository PATH: {bare[0].partition(': ')[2] or 'FILE'}")


def check_documents(items: Iterable[Sourced[Document]], exclude: Collection[str]) -> None:
    """Raise ValueError for an entry that names the file of a text and not its folder, as earlier releases wrote it."""
    for _, document in items if exclude else ():
        kind, _, file = document.source.partition(": ")
        if file in exclude:
            raise _unplaced(file, kind.partition(" ")[0], document.source)


def _unplaced(entry: str, kind: str, place: str) -> ValueError:
    return ValueError(
        f"ingest.exclude: {entry}: no {kind} is named. Write the place as column `source` has it, `{place}`, for each {kind} that is meant."
    )


def refused(items: Sequence[Sourced[Example | Document]], exclude: Collection[str]) -> Reasons:
    """Refuse records that an entry names, by id or by place."""
    entries = frozenset(exclude)
    if not entries:
        return {}
    return {
        position: (FORGOTTEN, NAMED)
        for position, item in enumerate(items)
        if item.record.id in entries or not entries.isdisjoint(beginnings(item.record.source))
    }


def forgotten(refusal: Refusal, exclude: Collection[str]) -> Refusal:
    """Return the refusal of a row that became no document, with nothing left of it where an entry names its place.

    The place stands in both columns, or in `where` alone.
    """
    places = {*beginnings(f"{refusal.source}: {refusal.where}"), *beginnings(refusal.where)}
    if places.isdisjoint(exclude):
        return refusal
    return replace(refusal, **LEFT)


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
