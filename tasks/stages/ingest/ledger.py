"""What was read from each source and what became of it, so that read = kept + refused + merged."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

from tasks.core.records import Document, Example, Refusal
from tasks.stages.ingest import texts

R = TypeVar("R", Example, Document)

MERGED = ("duplicate", "near-duplicate")
"""The reasons that mean: the same record stands elsewhere in the same split."""


class Taken(NamedTuple, Generic[R]):
    """A record and the source of params.yaml it came from."""

    source: str
    record: R


class Ledger:
    """The book of one run. Every record that is read is either dropped here, with a reason, or kept."""

    def __init__(self) -> None:
        self.refusals: list[Refusal] = []
        self._read: Counter[str] = Counter()

    def take(self, source: str, records: Iterable[R | Refusal]) -> Iterator[Taken[R]]:
        """The records that could be read. All are counted; refusals are filed under `source`."""
        self._read[source] += 0  # a source that holds nothing stands in the report too
        for record in records:
            self._read[source] += 1
            if isinstance(record, Refusal):
                where = record.where if record.source == source else f"{record.source} {record.where}".strip()
                self.refusals.append(Refusal(source, where, record.reason, record.detail, texts.start(record.record)))
            else:
                yield Taken(source, record)

    def drop(self, taken: Taken[Any], reason: str, detail: str) -> None:
        """File a record that was read and is not kept."""
        record = taken.record
        text = record.response if isinstance(record, Example) else record.text
        self.refusals.append(Refusal(taken.source, record.source, reason, detail, texts.start(text)))

    def without(self, items: Sequence[Taken[R]], dropped: dict[int, tuple[str, str]]) -> list[Taken[R]]:
        """The items but for those at the positions in `dropped`, which are filed with their reason and detail."""
        for here in sorted(dropped):
            self.drop(items[here], *dropped[here])
        return [item for here, item in enumerate(items) if here not in dropped]

    def cut(self, taken: Taken[Document], num_pieces: int) -> None:
        """Count a text by the pieces it was cut into."""
        self._read[taken.source] += num_pieces - 1

    def balance(self, kept: Iterable[Taken[Any]]) -> dict[str, dict[str, Any]]:
        """Per source: what was read, kept, merged, and refused by reason."""
        stayed = Counter(item.source for item in kept)
        reasons: defaultdict[str, Counter[str]] = defaultdict(Counter)
        for refusal in self.refusals:
            reasons[refusal.source][refusal.reason] += 1
        return {source: self._line(source, stayed[source], reasons[source]) for source in self._read}

    def _line(self, source: str, kept: int, reasons: Counter[str]) -> dict[str, Any]:
        merged = sum(reasons[reason] for reason in MERGED)
        refused = {reason: reasons[reason] for reason in sorted(reasons) if reason not in MERGED}
        read = self._read[source]
        assert read == kept + merged + sum(refused.values()), f"{source}: {read} read, {kept} kept, {dict(reasons)}"
        return {"read": read, "kept": kept, "merged": merged, "refused": refused}
