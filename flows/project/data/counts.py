"""Count records by source, split and reason of refusal."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from flows.project.data import connection

REPORT = Path("data/ingested/report.json")


@dataclass(frozen=True)
class ReasonCount:
    """Number of records that were refused for one reason."""

    reason: str
    records: int


@dataclass(frozen=True)
class SourceCounts:
    """The numbers of records of a source: read = kept + merged + refused."""

    source: str
    read: int
    kept: int
    merged: int
    """Number of duplicates whose copy is kept."""
    refused: Sequence[ReasonCount]


@dataclass(frozen=True)
class SplitCounts:
    """The numbers of examples of a split."""

    split: str
    examples: int
    groups: int
    """Number of groups, each of which is in one split."""
    share: float
    """Share of all examples."""


@dataclass(frozen=True)
class DomainCounts:
    """The numbers of examples of a domain in each split."""

    domain: str
    train: int
    valid: int
    test: int
    gate: int


@dataclass(frozen=True)
class CorpusCounts:
    """The number of documents of a corpus in a split."""

    corpus: str
    split: str
    documents: int
    characters: int


@dataclass(frozen=True)
class RoundCounts:
    """The numbers of examples of a round."""

    round: str
    examples: int
    rewritten: int
    """Number of examples that a turn of the loop made."""


@dataclass(frozen=True)
class SensitiveCounts:
    """The number of places in a source at which a rule found a secret or personal data."""

    source: str
    kind: str
    """`secret` or `personal`."""
    rule: str
    action: str
    """`reported`, `redacted` or `refused`."""
    records: int
    places: int


@dataclass(frozen=True)
class Counts:
    """The sizes of all tables of data."""

    sources: Sequence[SourceCounts]
    splits: Sequence[SplitCounts]
    domains: Sequence[DomainCounts]
    corpora: Sequence[CorpusCounts]
    reasons: Sequence[ReasonCount]
    """Reasons of refusal, the most frequent first."""
    rounds: Sequence[RoundCounts]
    sensitive: Sequence[SensitiveCounts]


ORDER = "CASE split WHEN 'train' THEN 0 WHEN 'valid' THEN 1 WHEN 'test' THEN 2 ELSE 3 END"
SPLITS = f"""SELECT split, count(*) AS examples, count(DISTINCT "group") AS groups,
    count(*) / sum(count(*)) OVER () AS share FROM examples GROUP BY split ORDER BY {ORDER}"""
DOMAINS = f"""SELECT domain, {", ".join(f"count(*) FILTER (split = '{name}') AS {name}" for name in ("train", "valid", "test", "gate"))}
    FROM examples GROUP BY domain ORDER BY domain"""
CORPORA = f"""SELECT domain AS corpus, split, count(*) AS documents, sum(length(text))::BIGINT AS characters
    FROM documents GROUP BY domain, split ORDER BY domain, {ORDER}"""
REASONS = "SELECT reason, count(*) AS records FROM quarantine GROUP BY reason ORDER BY records DESC, reason"
ROUNDS = """SELECT round_name AS round, count(*) AS examples, count(*) FILTER (round > 0) AS rewritten
    FROM rounds GROUP BY round_name ORDER BY length(round_name), round_name"""
SENSITIVE = """SELECT source, kind, rule, action, count(DISTINCT "where") AS records, count(*) AS places
    FROM sensitive GROUP BY ALL ORDER BY kind DESC, source, rule, action"""


def count() -> Counts:
    """Return the counts of the workspace's data. Raises FileNotFoundError if there are none yet."""
    with connection.opened() as opened:
        return Counts(
            _sources(),
            connection.records(opened, SPLITS, SplitCounts),
            connection.records(opened, DOMAINS, DomainCounts),
            connection.records(opened, CORPORA, CorpusCounts),
            connection.records(opened, REASONS, ReasonCount),
            connection.records(opened, ROUNDS, RoundCounts),
            connection.records(opened, SENSITIVE, SensitiveCounts),
        )


def _sources() -> list[SourceCounts]:
    """Return the counts of each source that stage `ingest` wrote; none without its report."""
    if not REPORT.is_file():
        return []
    report = json.loads(REPORT.read_text(encoding="utf-8"))
    return [
        SourceCounts(
            source,
            balance["read"],
            balance["kept"],
            balance["merged"],
            [ReasonCount(reason, records) for reason, records in balance["refused"].items()],
        )
        for source, balance in report["sources"].items()
    ]
