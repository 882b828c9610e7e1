"""Judge the claims as a whole: what a correction for their number leaves, and which rest on trainings that others rest on too."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import Any

from flows.experiments import claims, results_table
from flows.experiments.claims import Claim, FigureSource
from tasks.core import paired

LEVEL = 0.05
METRICS = ("loss", "general", "validation", "pass@1", "marked", "gap")
"""Figures that are typed in rows from before trainings were kept."""


@dataclass(frozen=True)
class Entry:
    """One row of the ledger, and what the others say of it."""

    method: str
    number: int
    """Its place among the method's rows, from 1."""
    claim: Claim
    p: float | None = None
    benjamini_hochberg: float | None = None
    """Its p-value, corrected for the number of rows that have figures."""
    holm: float | None = None
    of_trainings: FigureSource | None = None
    """Where its figures come from: named in the row, or recognised among the trainings that are kept."""
    shares: tuple[str, ...] = ()
    """Earlier rows with figures of the same trainings."""
    follows_from: tuple[str, ...] = ()
    """Earlier rows from which its figures follow by addition and subtraction."""

    @property
    def name(self) -> str:
        """The method and the number of the row: `fait 3`."""
        return f"{self.method} {self.number}"


def entries() -> list[Entry]:
    """Return all rows, in the order of the ledger."""
    rows = [
        (file.stem, number, claim)
        for file in sorted(claims.FOLDER.glob("*.json"))
        for number, claim in enumerate(claims.read(file.stem), 1)
    ]
    kept = {file.stem: json.loads(file.read_text(encoding="utf-8")) for file in sorted(claims.DATA.glob("*.json"))}
    p_values = [claim.p_value() for _, _, claim in rows]
    corrected = _corrected(p_values)
    earlier: list[Entry] = []
    for (method, number, claim), p, (by_rate, by_holm) in zip(rows, p_values, corrected, strict=True):
        source = claim.source or recognised(claim, kept)
        shares = tuple(entry.name for entry in earlier if source and _shares(source, entry.of_trainings))
        follows = tuple(_path(source, earlier)) if source else ()
        earlier.append(Entry(method, number, claim, p, by_rate, by_holm, source, shares, follows))
    return earlier


def kept_by(rows: Sequence[Entry]) -> Mapping[str, int]:
    """Return how many rows have figures, how many of them are decided, and how many of these each correction leaves."""
    with_figures = [entry for entry in rows if entry.p is not None]
    decided = [entry for entry in with_figures if entry.claim.verdict in ("reproduced", "not reproduced")]
    return {
        "rows": len(with_figures),
        "decided": len(decided),
        "benjamini_hochberg": sum((entry.benjamini_hochberg or 0) <= LEVEL for entry in decided),
        "holm": sum((entry.holm or 0) <= LEVEL for entry in decided),
    }


def recognised(claim: Claim, kept: Mapping[str, Sequence[dict[str, Any]]]) -> FigureSource | None:
    """Return the trainings that typed figures by seed are of, by their equality; None if they are of none that is kept.

    A row may have more seeds than were kept, or fewer; two at least must be there.
    """
    if not claim.per_seed:
        return None
    for comparison, trainings in kept.items():
        arms = list(dict.fromkeys(row["composition"] for row in trainings if row["composition"] is not None))
        for of, less in permutations(arms, 2):
            for metric in METRICS:
                figures = _differences(trainings, of, less, metric)
                common = min(len(figures), len(claim.per_seed))
                if common > 1 and tuple(figures[:common]) == claim.per_seed[:common]:
                    return FigureSource(comparison, of, less, metric)
    return None


def _differences(trainings: Sequence[dict[str, Any]], of: str, less: str, metric: str) -> list[float]:
    if not all(metric in row for row in trainings if row["composition"] in (of, less)):
        return []
    return results_table.differences_by_seed(trainings, of, less, metric)


def _corrected(p_values: Sequence[float | None]) -> list[tuple[float | None, float | None]]:
    """Return each p-value by Benjamini and Hochberg and by Holm, of all that there are."""
    known = [p for p in p_values if p is not None]
    pairs = iter(zip(paired.benjamini_hochberg(known), paired.holm(known), strict=True))
    return [(None, None) if p is None else next(pairs) for p in p_values]


def _shares(source: FigureSource, other: FigureSource | None) -> bool:
    return bool(other and source.comparison == other.comparison and {source.of, source.less} & {other.of, other.less})


def _path(source: FigureSource, earlier: Sequence[Entry]) -> Iterator[str]:
    """Yield the rows that lead from one arm to the other by differences of the same figure: their sum is this row's."""
    neighbours: defaultdict[str, dict[str, str]] = defaultdict(dict)
    for entry in earlier:
        edge = entry.of_trainings
        if edge and (edge.comparison, edge.metric) == (source.comparison, source.metric):
            neighbours[edge.of][edge.less] = neighbours[edge.less][edge.of] = entry.name
    before: dict[str, tuple[str, str]] = {source.less: ("", "")}
    queue = [source.less]
    while queue and source.of not in before:
        arm = queue.pop(0)
        for other, name in neighbours[arm].items():
            if other not in before:
                before[other] = (arm, name)
                queue.append(other)
    arm = source.of
    while arm in before and arm != source.less:
        arm, name = before[arm]
        yield name
