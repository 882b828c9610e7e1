"""Parts of sources that are read independently: a block of lines, a file, or all rows of a source. Each gets a folder with its shards."""

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tasks.core.records import Example, Refusal, SensitiveText
from tasks.core.text.sensitive import search
from tasks.io import columns, provenance
from tasks.io.sources import table
from tasks.io.sources.formats.blocks import Block
from tasks.io.sources.record import Row, UnreadableError
from tasks.io.system import files, workers
from tasks.stages.ingest.config import Datasets, File, IngestConfig, Query
from tasks.stages.ingest.quarantine import Sourced, refusal_of, refusal_of_record
from tasks.stages.ingest.reading.examples import Checked, domain_of, examples_from_records, read_records
from tasks.stages.ingest.reading.rows.pairs import Pair, PairReader
from tasks.stages.ingest.reading.sources import Table, label, sample, tables
from tasks.stages.ingest.screening import exclusion, sensitive
from tasks.stages.ingest.screening.screen import screen_examples
from tasks.stages.ingest.shards.rows import Rows, all_text, as_example
from tasks.stages.ingest.shards.shard import Shard

ROWS, CHARS = 20_000, 1 << 24
"""Most examples and characters of a shard."""
SUMMARY = "part.json"


Item = Sourced[Example | Refusal | Pair]
Records = Iterator[Item]


@dataclass(frozen=True, kw_only=True)
class Part(ABC):
    """A part of a source."""

    is_screened: bool = True
    """False for evaluation sets, which are not changed."""
    rescued: frozenset[str] = frozenset()
    """Ids of examples that screening does not refuse."""

    @property
    def key(self) -> str | None:
        """A digest of everything that its shards depend on, except `exclude`; None if the part is read again in every run."""
        return None

    @property
    def constants(self) -> Mapping[str, Any]:
        """The columns that all its pairs have in common."""
        return {}

    @abstractmethod
    def read(self, checked: Checked) -> Records:
        """Yield its records, and count in `checked` those that fit the source's check."""


@dataclass(frozen=True)
class FilePart(Part):
    """A file, or a block of one."""

    source: File
    table: Table
    block: Block | None
    config: IngestConfig

    @property
    def key(self) -> str | None:
        if self.table.problem:
            return None
        digest = self.block.digest if self.block else provenance.digest(self.table.path)
        place = self.block.place if self.block else []
        settings = self.source.model_dump(mode="json", exclude={"path", "url", "sha256", "max_rows"})
        screening = self.config.model_dump(mode="json", include={"licenses", "secrets", "personal", "quality"})
        names = [self.table.label, label(self.source), domain_of(self.source)]
        facts = [code(), digest, place, names, settings, screening, *sorted(self.rescued)]
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:32]

    @property
    def constants(self) -> Mapping[str, Any]:
        return {
            "task": self.source.task,
            "domain": domain_of(self.source),
            "split": self.source.held_out or "train",
            "license": self.source.license,
        }

    def read(self, checked: Checked) -> Records:
        records = self.block.records(self.table.path) if self.block else self.table.records()
        reader, label, domain = PairReader(self.source), self.table.label, domain_of(self.source)
        for record in records:
            if isinstance(record, Row) and (pair := reader.read(record)) is not None:
                yield Sourced(label, pair)
            else:
                yield from examples_from_records([(label, record)], self.source, domain, checked)


@dataclass(frozen=True)
class RowsPart(Part):
    """All rows of a source, or a sample of them."""

    source: File | Query | Datasets
    seed: int

    def read(self, checked: Checked) -> Records:
        records, domain = read_records(self.source)
        return examples_from_records(sample(records, self.source.max_rows, self.seed), self.source, domain, checked)


@dataclass(frozen=True)
class MadePart(Part):
    """Examples that are not read from rows: mined functions, generated puzzles, the items of a benchmark."""

    records: Iterable[Sourced[Example | Refusal]]

    def read(self, checked: Checked) -> Records:
        return iter(self.records)


@dataclass
class Summary:
    """The contents of a part, in numbers."""

    read: dict[str, int] = field(default_factory=dict)
    """Number of records of each file."""
    shards: list[int] = field(default_factory=list)
    """Number of examples of each shard."""
    checked: Checked = field(default_factory=Checked)
    sizes: dict[str, int] = field(default_factory=dict)
    """Size of each file in bytes, to detect files without contents: after a power failure, a renamed folder may have some."""

    def to_json(self) -> str:
        """Return the summary as JSON."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Summary":
        """Return the summary that `to_json` wrote."""
        values = json.loads(text)
        return cls(**values | {"checked": Checked(**values["checked"])})


def parts_of(source: File | Query | Datasets, config: IngestConfig) -> Iterator[Part]:
    """Yield the parts of a source, in order. There is one part for a sample, which is drawn from all rows, and for messages, which are joined."""
    if not isinstance(source, File) or source.max_rows is not None or source.thread is not None:
        yield RowsPart(source, config.seed)
        return
    for file in tables(source):
        for block in _blocks(file):
            yield FilePart(source, file, block, config)


def _blocks(file: Table) -> Sequence[Block | None]:
    """Return the blocks of a file that can be read independently, or a single None for the whole file."""
    try:
        return (None if file.problem or not file.path.is_file() else table.blocks(file.path, file.header)) or [None]
    except (UnreadableError, OSError):
        return [None]  # reading the file reports the error


def write_part(part: Part, folder: Path, config: IngestConfig) -> Summary:
    """Read a part and write its shards to `folder`, which appears with all shards or not at all."""
    summary = Summary()
    with files.atomic_path(folder) as partial:
        partial.mkdir()
        for records in _in_shards(part.read(summary.checked)):
            _write_shard(records, part, partial, config, summary)
        summary.sizes = _sizes(partial)
        (partial / SUMMARY).write_text(summary.to_json(), encoding="utf-8")
    return summary


def written(folder: Path) -> Summary | None:
    """Return the summary of the part in `folder`; None if no complete part is there."""
    try:
        summary = Summary.from_json((folder / SUMMARY).read_text(encoding="utf-8"))
    except (FileNotFoundError, json.JSONDecodeError):
        return None
    return summary if summary.sizes == _sizes(folder) else None


def shards_in(folder: Path, summary: Summary) -> list[Shard]:
    """Return the shards of a part."""
    return [Shard(folder, number, rows) for number, rows in enumerate(summary.shards)]


def _sizes(folder: Path) -> dict[str, int]:
    return {file.name: file.stat().st_size for file in sorted(folder.iterdir()) if file.name != SUMMARY}


def _in_shards(records: Records) -> Iterator[list[Item]]:
    """Yield the records in lists of limited size, one for each shard."""
    held: list[Item] = []
    chars = 0
    for item in records:
        held.append(item)
        record = item.record
        if isinstance(record, Pair):
            chars += len(record.prompt) + len(record.response)
        elif isinstance(record, Example):
            chars += sum(len(message.content) for message in record.messages)
        if len(held) >= ROWS or chars >= CHARS:
            yield held
            held, chars = [], 0
    if held:
        yield held


def _write_shard(items: list[Item], part: Part, folder: Path, config: IngestConfig, summary: Summary) -> None:
    for item in items:
        summary.read[item.source] = summary.read.get(item.source, 0) + 1
    screened, places = _screened(items, part, config) if part.is_screened else (items, [])
    rows = Rows([Sourced(file, row) for file, row in screened if not isinstance(row, Refusal)], part.constants)
    refusals = columns.frame([refusal_of(file, row) for file, row in screened if isinstance(row, Refusal)], Refusal)
    if part.is_screened and config.exclude:
        refusals = exclusion.without_named(refusals, config.exclude)
    shard = Shard(folder, len(summary.shards), len(rows))
    shard.write(rows, sensitive.hide(refusals, config.actions), places)
    summary.shards.append(shard.rows)


def _screened(items: list[Item], part: Part, config: IngestConfig) -> tuple[list[Item], list[SensitiveText]]:
    """Return the records after screening, and every place with a secret or personal data."""
    rows = {n: Sourced(file, row) for n, (file, row) in enumerate(items) if not isinstance(row, Refusal)}
    if config.licenses or config.quality.examples.is_on or config.exclude:
        chosen = list(rows)
    else:  # for most rows, a quick search for hints shows that they hold nothing sensitive
        places = list(rows)
        chosen = [places[n] for n in sorted(search.suspects(all_text(rows[place].record) for place in places))]
    screened = screen_examples([as_example(rows[place], part.constants) for place in chosen], config, part.rescued)
    after: list[Item] = list(items)
    for n, (place, item) in enumerate(zip(chosen, screened.items, strict=True)):
        refused = screened.refused.get(n)
        after[place] = Sourced(item.source, refusal_of_record(item, *refused)) if refused else item
    return after, screened.sensitive


def code() -> str:
    """Return a digest of the code and the libraries that turn records into shards."""
    return workers.code_of(__name__)
