"""Leave out what settings exclude: what somebody asked to be forgotten."""

from collections.abc import Collection, Sequence

import polars as pl

from tasks.core.records import Document, Example
from tasks.stages.ingest.quarantine import FORGOTTEN, Reasons, Sourced


def refused(items: Sequence[Sourced[Example | Document]], exclude: Collection[str]) -> Reasons:
    """Refuse records that an entry names, by id or by place."""
    entries = frozenset(exclude)
    if not entries:
        return {}
    return {
        position: (FORGOTTEN, "ingest.exclude names it")
        for position, item in enumerate(items)
        if item.record.id in entries or not entries.isdisjoint(beginnings(item.record.source))
    }


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
