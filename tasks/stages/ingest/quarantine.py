"""Record of every refused row, with the reason, and the balance of each source: read = kept + merged + refused."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

from tasks.core.records import Document, Example, Refusal, excerpt
from tasks.stages.ingest.reading import cleaning

R = TypeVar("R")
Reasons = Mapping[int, tuple[str, str]]
"""Position of a record that is to be refused → reason and detail."""

DETAIL = 1_000
"""Characters of a detail that are kept: that of a table with thousands of columns names them all."""
MERGED = ("duplicate", "near-duplicate")
"""The reasons of records whose copy is kept in the same split."""


class Sourced(NamedTuple, Generic[R]):
    """A record and the source of params.yaml it was read from."""

    source: str
    record: R


class Quarantine:
    """The refused records of one run, and the number of records read from each source."""

    def __init__(self) -> None:
        self.refusals: list[Refusal] = []
        self._num_read: Counter[str] = Counter()

    def receive(self, source: str, records: Iterable[R | Refusal]) -> Iterator[Sourced[R]]:
        """Count the records of `source`, file its refusals, and yield the others."""
        return self.receive_files(source, (Sourced(source, record) for record in records))

    def receive_files(self, source: str, records: Iterable[Sourced[R | Refusal]]) -> Iterator[Sourced[R]]:
        """Count the records of each file of `source`, file the refusals, and yield the others."""
        is_empty = True
        for file, record in records:
            is_empty = False
            self._num_read[file] += 1
            if isinstance(record, Refusal):
                where = record.where if record.source == file else f"{record.source} {record.where}".strip()
                detail, shown = excerpt(record.detail, DETAIL), cleaning.beginning(record.record)
                self.refusals.append(Refusal(file, where, record.reason, detail, shown))
            else:
                yield Sourced(file, record)
        if is_empty:
            self._num_read[source] += 0  # an empty source is reported too

    def refuse(self, item: Sourced[Any], reason: str, detail: str) -> None:
        """File a record that was read and is not kept."""
        record = item.record
        text = record.response if isinstance(record, Example) else record.text
        self.refusals.append(Refusal(item.source, record.source, reason, detail, cleaning.beginning(text)))

    def keep_others(self, items: Sequence[Sourced[R]], refused: Reasons) -> list[Sourced[R]]:
        """Refuse the items at the positions in `refused` and return the others."""
        for position in sorted(refused):
            self.refuse(items[position], *refused[position])
        return [item for position, item in enumerate(items) if position not in refused]

    def count_chunks(self, item: Sourced[Document], num_chunks: int) -> None:
        """Count a document that was cut as that many records read."""
        self._num_read[item.source] += num_chunks - 1

    def balance(self, kept: Iterable[Sourced[Any]]) -> dict[str, dict[str, Any]]:
        """Return, for each source, the numbers of records read, kept, merged, and refused by reason."""
        num_kept = Counter(item.source for item in kept)
        reasons: defaultdict[str, Counter[str]] = defaultdict(Counter)
        for refusal in self.refusals:
            reasons[refusal.source][refusal.reason] += 1
        return {source: self._balance_of(source, num_kept[source], reasons[source]) for source in self._num_read}

    def _balance_of(self, source: str, num_kept: int, reasons: Counter[str]) -> dict[str, Any]:
        merged = sum(reasons[reason] for reason in MERGED)
        refused = {reason: reasons[reason] for reason in sorted(reasons) if reason not in MERGED}
        num_read = self._num_read[source]
        assert num_read == num_kept + merged + sum(refused.values()), (
            f"{source}: {num_read} read, {num_kept} kept, {dict(reasons)}"
        )
        return {"read": num_read, "kept": num_kept, "merged": merged, "refused": refused}
