"""Compare logs item by item: means, differences with intervals, tests corrected for their number, and the power of the comparison."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from flows.experiments.logs import pairing, reading
from flows.experiments.logs.pairing import Pair
from flows.experiments.logs.records import Log, counted
from tasks.core import paired, statistics
from tasks.core.statistics import Estimate

ALPHA, CHANCE = 0.05, 0.8
MCNEMAR, FLIPS = "McNemar's exact test", "sign flips"


@dataclass(frozen=True)
class Change:
    """An item whose score differs, and its two scores."""

    item: str
    before: float
    after: float


@dataclass(frozen=True)
class Comparison:
    """One measure of one task in two logs."""

    measure: str
    pair: Pair
    items: int
    before: Estimate
    after: Estimate
    difference: Estimate
    """The difference of the other log minus the first."""
    changes: tuple[Change, ...]
    """The items whose scores differ, with the largest difference first."""
    test: str
    p: float
    power: paired.Power
    remarks: tuple[str, ...]
    adjusted: float = 1.0
    """The p-value corrected by Holm for the number of comparisons."""

    @property
    def rose(self) -> int:
        """Return the number of items with a higher score in the other log."""
        return sum(change.after > change.before for change in self.changes)

    @property
    def fell(self) -> int:
        """Return the number of items with a lower score in the other log."""
        return len(self.changes) - self.rose

    @property
    def verdict(self) -> str:
        """Return `higher`, `lower`, `equal` if no item differs, else `open`."""
        if not self.changes:
            return "equal"
        if self.adjusted >= ALPHA:
            return "open"
        return "higher" if self.difference.value > 0 else "lower"


@dataclass(frozen=True)
class Report:
    """All comparisons of some logs."""

    names: tuple[str, ...]
    logs: tuple[Log, ...]
    comparisons: tuple[Comparison, ...]
    group: str | None
    remarks: tuple[str, ...]


def compare(
    paths: Sequence[Path], *, group: str | None = None, measures: Sequence[str] = (), all_pairs: bool = False
) -> Report:
    """Compare every log with the first, or every two logs, on every measure that both have.

    `group` names the field of an item whose equal values form a group, which is resampled and flipped as a whole. Raises ValueError
    if two logs share nothing that can be compared, or are the same.
    """
    if len(paths) < 2:
        raise ValueError("A comparison takes two logs or more: ratchet compare-logs A B")
    logs = [reading.read(path) for path in paths]
    pairing.check_distinct(logs)
    named = list(zip(pairing.names(logs), logs, strict=True))
    couples = itertools.combinations(named, 2) if all_pairs else ((named[0], other) for other in named[1:])
    measured: list[tuple[Pair, str]] = []
    remarks: list[str] = []
    for first, other in couples:
        if lone := pairing.unpaired_tasks(first[1], other[1]):
            remarks.append(f"{first[0]} and {other[0]}: only one of them has {', '.join(lone)}.")
        for pair in pairing.pair(first, other):
            shared, lacking = _measures(pair, measures)
            measured += [(pair, measure) for measure in shared]
            if lacking:
                remarks.append(f"{first[0]} and {other[0]}: only one of them has {', '.join(lacking)}.")
    unknown = set(measures) - {measure for _, measure in measured}
    if unknown or not measured:
        raise ValueError(_nothing_in_common(named, sorted(unknown)))
    comparisons = [_compare(pair, measure, group, ALPHA / len(measured)) for pair, measure in measured]
    adjusted = paired.holm([comparison.p for comparison in comparisons])
    corrected = [replace(comparison, adjusted=p) for comparison, p in zip(comparisons, adjusted, strict=True)]
    return Report(tuple(name for name, _ in named), tuple(logs), tuple(corrected), group, tuple(remarks))


def _measures(pair: Pair, wanted: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the measures that both logs have, and those that only one has."""
    before, after = (
        dict.fromkeys(measure for item in task.items.values() for measure in item.scores)
        for task in (pair.before, pair.after)
    )
    chosen = [measure for measure in before if not wanted or measure in wanted]
    lacking = [measure for measure in sorted(before.keys() ^ after.keys()) if not wanted or measure in wanted]
    return [measure for measure in chosen if measure in after], lacking


def _nothing_in_common(named: Sequence[tuple[str, Log]], unknown: Sequence[str]) -> str:
    available = "; ".join(f"{name} has {', '.join(_measures_of(log))}" for name, log in named)
    wanted = f"measure {', '.join(unknown)}" if unknown else "measure"
    return f"No {wanted} is in both logs of a pair: {available}."


def _measures_of(log: Log) -> list[str]:
    items = [item for task in log.tasks.values() for item in task.items.values()]
    return list(dict.fromkeys(measure for item in items for measure in item.scores))


def _compare(pair: Pair, measure: str, group: str | None, alpha: float) -> Comparison:
    """Return one comparison, without the correction of its p-value. `alpha` is the level for which power is computed."""
    ids = [item for item in pair.items if all(measure in task.items[item].scores for task in (pair.before, pair.after))]
    if not ids:
        raise ValueError(f"{pair.first} and {pair.other} have no item in common that both score by {measure}.")
    before, after = ([task.items[item].scores[measure] for item in ids] for task in (pair.before, pair.after))
    groups = None if group is None else [_group(pair, item, group) for item in ids]
    differences = [two - one for one, two in zip(before, after, strict=True)]
    changes = [Change(item, one, two) for item, one, two in zip(ids, before, after, strict=True) if one != two]
    binary = set(before) | set(after) <= {0.0, 1.0}
    if binary:
        difference = statistics.proportion_difference(before, after, groups)
    elif _are_shares([*before, *after]):
        difference = statistics.score_difference(before, after, groups)
    else:
        difference = statistics.mean(differences, groups)
    flips = binary and groups is None
    return Comparison(
        measure=measure,
        pair=pair,
        items=len(ids),
        before=_level(before, groups, binary),
        after=_level(after, groups, binary),
        difference=difference,
        changes=tuple(sorted(changes, key=lambda change: (-abs(change.after - change.before), change.item))),
        test=MCNEMAR if flips else FLIPS,
        p=statistics.mcnemar(before, after) if flips else paired.sign_flip(differences, groups),
        power=paired.power(differences, groups, alpha=alpha, chance=CHANCE),
        remarks=tuple(_remarks(pair, before, after, len(changes), difference.n)),
    )


def _group(pair: Pair, item: str, field: str) -> str:
    """Return the group of an item in the first log."""
    for task in (pair.before, pair.after):
        if (value := task.items[item].facts.get(field)) is not None:
            return value
    known = ", ".join(pair.before.items[item].facts) or "none"
    raise ValueError(f"Item {item} of {pair.first} has no field {field!r} to group by. Its fields: {known}.")


def _level(values: Sequence[float], groups: Sequence[str] | None, binary: bool) -> Estimate:
    if binary and groups is None:
        return statistics.proportion(round(sum(values)), len(values))
    return statistics.share(values, groups) if _are_shares(values) else statistics.mean(values, groups)


def _are_shares(values: Sequence[float]) -> bool:
    return all(0 <= value <= 1 for value in values)


def _remarks(pair: Pair, before: Sequence[float], after: Sequence[float], changed: int, units: int) -> Iterator[str]:
    if without := len(pair.items) - len(before):
        yield f"{counted(without, 'shared item')} without this score in one of the logs, left out"
    if len({*before, *after}) == 1:
        yield f"every item scores {before[0]:g} in both logs: they cannot be told apart by these items"
    elif not changed:
        yield "all items are ties: no score differs"
    if units == 1:
        yield "there is one group: nothing can be said about others"
