"""Judge the claims as a whole: what remains after a correction for their number, and which claims share trainings."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import permutations
from typing import Any

from flows.experiments import claims, results_table
from flows.experiments.claims import Claim, FigureSource
from tasks.core import paired

LEVEL = 0.05
METRICS = ("loss", "general", "validation", "pass@1", "accuracy", "marked", "gap")
"""Figures that are typed in rows from before trainings were kept, and that identify a training in several files."""
Kept = Mapping[str, Sequence[dict[str, Any]]]
"""The kept trainings, by comparison."""


@dataclass(frozen=True)
class Entry:
    """One row of the ledger, and its relation to the other rows."""

    method: str
    number: int
    """Its number among the method's rows, from 1."""
    claim: Claim
    p: float | None = None
    benjamini_hochberg: float | None = None
    """Its p-value, corrected for the number of rows that have figures."""
    holm: float | None = None
    of_trainings: FigureSource | None = None
    """The source of its figures: named in the row, or recognised among the kept trainings."""
    shares: tuple[str, ...] = ()
    """Earlier rows with figures of the same trainings, or of the same arm that was trained again with the same seeds."""
    follows_from: tuple[str, ...] = ()
    """Earlier rows from which its figures follow by addition and subtraction."""

    @property
    def name(self) -> str:
        """Return the method and the number of the row: `fait 3`."""
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
        entry = Entry(method, number, claim, p, by_rate, by_holm, source)
        shares = tuple(other.name for other in earlier if _shares(entry, other, kept))
        follows = tuple(_path(source, earlier)) if source else ()
        earlier.append(replace(entry, shares=shares, follows_from=follows))
    return earlier


def kept_by(rows: Sequence[Entry]) -> Mapping[str, int]:
    """Return the number of rows with figures, of decided ones among them, and of those that remain after each correction."""
    with_figures = [entry for entry in rows if entry.p is not None]
    decided = [entry for entry in with_figures if entry.claim.verdict in ("reproduced", "not reproduced")]
    return {
        "rows": len(with_figures),
        "decided": len(decided),
        "benjamini_hochberg": sum((entry.benjamini_hochberg or 0) <= LEVEL for entry in decided),
        "holm": sum((entry.holm or 0) <= LEVEL for entry in decided),
    }


def recognised(claim: Claim, kept: Kept) -> FigureSource | None:
    """Return the kept trainings to which typed figures by seed belong, found by equality; None if there are none.

    A row may have more seeds than were kept, or fewer. At least two must match.
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
    """Return each p-value, corrected for all of them, by Benjamini and Hochberg and by Holm."""
    known = [p for p in p_values if p is not None]
    pairs = iter(zip(paired.benjamini_hochberg(known), paired.holm(known), strict=True))
    return [(None, None) if p is None else next(pairs) for p in p_values]


def _shares(entry: Entry, other: Entry, kept: Kept) -> bool:
    """Return True if two rows are based on one training, or on one arm that was trained twice with the same seed.

    If the trainings of one of them are not kept, two rows with the same command count as sharing.
    """
    source, of_other = entry.of_trainings, other.of_trainings
    if source is None or of_other is None:
        return entry.p is not None and other.p is not None and entry.claim.command == other.claim.command
    if source.comparison == of_other.comparison:
        return bool({source.of, source.less} & {of_other.of, of_other.less})
    rows, of_others = _trainings(source, kept), _trainings(of_other, kept)
    if _study(entry.claim) == _study(other.claim) and _arms(rows) & _arms(of_others):
        return True
    return any(_is_one(row, another) for row in rows for another in of_others)


def _trainings(source: FigureSource, kept: Kept) -> list[dict[str, Any]]:
    return [row for row in kept.get(source.comparison, ()) if row["composition"] in (source.of, source.less)]


def _arms(rows: Sequence[dict[str, Any]]) -> set[tuple[str, int]]:
    return {(row["composition"], row["seed"]) for row in rows}


def _study(claim: Claim) -> str:
    """Return a claim's command without seeds and options: rows of one study train the same arms."""
    return re.sub(r"( \d+)+( --.*)?$| --.*$", "", claim.command)


def _is_one(row: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Return True if rows of two files have the same seed and the same figures, two at least."""
    common = [metric for metric in METRICS if metric in row and metric in other]
    return row["seed"] == other["seed"] and len(common) > 1 and all(row[name] == other[name] for name in common)


def _path(source: FigureSource, earlier: Sequence[Entry]) -> Iterator[str]:
    """Yield the rows that lead from one arm to the other by differences of the same figure. Their sum is the figure of this row."""
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
