"""Leave out what settings exclude: what somebody asked to be forgotten."""

from collections.abc import Collection, Sequence

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


def beginnings(place: str) -> list[str]:
    """Return a place and how it begins up to each colon: of `a.jsonl: line 3` also `a.jsonl`."""
    parts = place.split(":")
    return [":".join(parts[:number]) for number in range(1, len(parts) + 1)]
