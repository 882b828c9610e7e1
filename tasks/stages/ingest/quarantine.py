"""Record every refused row with the reason, and the balance of each source: read = kept + merged + refused."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

import polars as pl

from tasks.core.records import Document, Example, Refusal
from tasks.core.text.visible import excerpt
from tasks.io import columns
from tasks.stages.ingest.reading import cleaning

R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)
D = TypeVar("D", Document, Example)
Hide = Callable[[pl.DataFrame], pl.DataFrame]
"""Removes sensitive content from a table of refusals."""
Reasons = Mapping[int, tuple[str, str]]
"""Position of a record to refuse → reason and detail."""

DETAIL = 1_000
"""Most characters of a detail that are kept, since the detail for a table with thousands of columns names them all."""
TOO_LONG = "too long"
MERGED = ("duplicate", "near-duplicate")
"""The reasons of refusal for a record whose copy is kept in the same split."""


FORGOTTEN = "forgotten"
"""The reason of refusal for a record that was asked to be forgotten. No text of it is kept."""


def too_long(lengths: Sequence[int], limits: Sequence[int]) -> str:
    """Return the detail of a refusal as too long, from the numbers of characters of prompt and response; empty if both are short enough."""
    for side, length, limit in zip(("prompt", "response"), lengths, limits, strict=True):
        if length > limit:
            return f"the {side} has {length} characters; max_{side}_chars is {limit}"
    return ""


class Sourced(NamedTuple, Generic[R_co]):
    """A record, and the source of params.yaml from which it was read."""

    source: str
    record: R_co


def refusal_of(file: str, refusal: Refusal) -> Refusal:
    """Return a refusal of a record of `file` in the form for the quarantine: with its place in the file, and a detail of limited length."""
    where = refusal.where if refusal.source == file else f"{refusal.source} {refusal.where}".strip()
    beginning = cleaning.beginning(refusal.record)
    return Refusal(file, where, refusal.reason, excerpt(refusal.detail, DETAIL), beginning, refusal.id)


def refusal_of_record(item: Sourced[Example | Document], reason: str, detail: str) -> Refusal:
    """Return the refusal of a record that was read but is not kept."""
    file, record = item
    text = "" if reason == FORGOTTEN else record.response if isinstance(record, Example) else record.text
    return Refusal(file, record.source, reason, detail, cleaning.beginning(text), record.id)


def as_it_is(refusals: pl.DataFrame) -> pl.DataFrame:
    """Return a table of refusals unchanged."""
    return refusals


class Quarantine:
    """The refused records of one run, and the number of records read from each source."""

    def __init__(self, hide: Hide = as_it_is) -> None:
        self._hide = hide
        self._tables: list[pl.LazyFrame] = []
        self._refusals: list[Refusal] = []
        self._num_read: Counter[str] = Counter()

    def receive(self, source: str, records: Iterable[R | Refusal]) -> Iterator[Sourced[R]]:
        """Count the records of `source`, keep its refusals, and yield the other records."""
        is_empty = True
        for record in records:
            is_empty = False
            self._num_read[source] += 1
            if isinstance(record, Refusal):
                self._refusals.append(refusal_of(source, record))
            else:
                yield Sourced(source, record)
        if is_empty:
            self._num_read[source] += 0  # an empty source is reported too

    def receive_table(self, num_read: Mapping[str, int], refusals: pl.LazyFrame | None) -> None:
        """Count the records of each file, and add a table of refusals, which may be larger than memory."""
        for file, number in num_read.items():
            self._num_read[file] += number
        if refusals is not None:
            self._tables += [self._filed(), refusals]

    def refuse(self, item: Sourced[Document], reason: str, detail: str) -> None:
        """Refuse a document that was read."""
        self._refusals.append(refusal_of_record(item, reason, detail))

    def keep_others(self, items: Sequence[Sourced[D]], refused: Reasons) -> list[Sourced[D]]:
        """Refuse the items at the positions in `refused` and return the others."""
        for position in sorted(refused):
            self._refusals.append(refusal_of_record(items[position], *refused[position]))
        return [item for position, item in enumerate(items) if position not in refused]

    def count_chunks(self, item: Sourced[Document], num_chunks: int) -> None:
        """Count a document that was cut as `num_chunks` records read."""
        self._num_read[item.source] += num_chunks - 1

    def table(self) -> pl.LazyFrame:
        """Return all refusals, in the order in which they were added."""
        self._tables.append(self._filed())
        return pl.concat(self._tables)

    def balance(self, num_kept: Mapping[str, int]) -> dict[str, dict[str, Any]]:
        """Return, for each source, the numbers of records read, kept, merged, and refused by reason."""
        counts = self.table().group_by("source", "reason").len().collect()
        reasons: defaultdict[str, Counter[str]] = defaultdict(Counter)
        for source, reason, number in counts.iter_rows():
            reasons[source][reason] = number
        return {source: self._balance_of(source, num_kept.get(source, 0), reasons[source]) for source in self._num_read}

    def _filed(self) -> pl.LazyFrame:
        """Return the refusals in memory as a table, and clear the list."""
        filed, self._refusals = self._hide(columns.frame(self._refusals, Refusal)), []
        return filed.lazy()

    def _balance_of(self, source: str, num_kept: int, reasons: Counter[str]) -> dict[str, Any]:
        merged = sum(reasons[reason] for reason in MERGED)
        refused = {reason: reasons[reason] for reason in sorted(reasons) if reason not in MERGED}
        num_read = self._num_read[source]
        assert num_read == num_kept + merged + sum(refused.values()), (
            f"{source}: {num_read} read, {num_kept} kept, {dict(reasons)}"
        )
        return {"read": num_read, "kept": num_kept, "merged": merged, "refused": refused}
