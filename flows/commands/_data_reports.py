"""Hold the reports of `ratchet data`, as records."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from flows.commands._reports import Report
from flows.project.data.browse import Drawn, Match
from flows.project.data.clusters import Cluster
from flows.project.data.counts import Counts
from flows.project.data.diff import Difference
from flows.project.data.show import Shown


@dataclass(frozen=True)
class DataReport(Report):
    """The report of `ratchet data`."""

    counts: Counts


@dataclass(frozen=True)
class DataSampleReport(Report):
    """The report of `ratchet data sample`."""

    total: int
    """The number of records that the sample was drawn from."""
    records: Sequence[Drawn]


@dataclass(frozen=True)
class DataSearchReport(Report):
    """The report of `ratchet data search`."""

    total: int
    """The number of texts that hold what was searched for."""
    matches: Sequence[Match]
    """The first of these texts."""


@dataclass(frozen=True)
class DataShowReport(Report):
    """The report of `ratchet data show`."""

    record: Shown


@dataclass(frozen=True)
class DataDiffReport(Report):
    """The report of `ratchet data diff`."""

    difference: Difference


@dataclass(frozen=True)
class DataClustersReport(Report):
    """The report of `ratchet data clusters`."""

    total: int
    """The number of all clusters."""
    copies: int
    """Records of all clusters that were left out as copies."""
    clusters: Sequence[Cluster]
    """The largest clusters."""


@dataclass(frozen=True)
class DataSqlReport(Report):
    """The report of `ratchet data sql`."""

    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]
    """The values of each row in the order of the columns: numbers, texts, true and false, lists and objects; times as text."""
    more: bool
    """True if the query has more rows than `--rows` allows."""
