"""What a model gains or loses against another, measure by measure, on the items that both were given."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from tasks.core import statistics
from tasks.core.records import Result
from tasks.core.statistics import Bootstrap, Estimate

LOSSES = {"domain": "domain loss", "domain_text": "domain text loss", "general": "general loss"}
"""Each measure in words, in the order they are told. Examples and corpora are a choice, so any may be missing."""
HERE = ("domain", "domain_text")
"""The first of these that was measured decides what a model is worth here."""
PASS = "pass@1"
TIERS = ("short", "medium", "long")
UNITS: dict[str, Callable[[Result], float]] = {
    "nats/token": lambda result: result.tokens,
    "bits/byte": lambda result: result.size * math.log(2),
}
"""What summed nats are divided by."""

Pair = tuple[Result, Result]


@dataclass(frozen=True)
class Row:
    """One measure of two models, and their paired difference (after minus before)."""

    measure: str
    part: str
    """The tier of a pass@1 row, `all` for every task; empty for a loss."""
    unit: str
    """`nats/token`, `bits/byte`, or `share` for pass@1."""
    items: int
    before: Estimate
    after: Estimate
    difference: Estimate
    p: float | None = None
    """Exact p-value of McNemar's test, for pass@1."""


@dataclass(frozen=True)
class Comparison:
    """Two models, row by row."""

    before: str
    after: str
    rows: list[Row]
    tasks: list[Pair]
    """The answers of both to each task of pass@1."""

    @property
    def here(self) -> Row:
        """The loss that decides whether the second model is better here: on examples, or on texts where there are none."""
        return next(row for measure in HERE if (row := self.row(measure)))

    def row(self, measure: str, part: str = "", unit: str = "nats/token") -> Row | None:
        """The row of a measure; none where it was not measured."""
        return next((row for row in self.rows if (row.measure, row.part, row.unit) == (measure, part, unit)), None)


def compare(
    before: tuple[str, Sequence[Result]], after: tuple[str, Sequence[Result]], how: Bootstrap = statistics.DEFAULT
) -> Comparison:
    """Every measure of two named models. Raises ValueError where they were not measured on the same items."""
    names = before[0], after[0]
    losses = {measure: _pair(measure, names, before[1], after[1]) for measure in LOSSES}
    if not any(losses[measure] for measure in HERE):
        raise ValueError(
            f"{names[0]} and {names[1]} have no result of {' or '.join(HERE)}: run stage evaluate for both."
        )
    tasks = _pair(PASS, names, before[1], after[1])
    rows = [_loss(measure, unit, pairs, how) for unit in UNITS for measure, pairs in losses.items() if pairs]
    rows += [_passes(part, pairs, how) for part, pairs in _tiers(tasks)]
    return Comparison(*names, rows, tasks)


def _pair(measure: str, names: tuple[str, str], before: Sequence[Result], after: Sequence[Result]) -> list[Pair]:
    """The results of both models for each item, in the order of the items."""
    first, second = ({result.item: result for result in side if result.measure == measure} for side in (before, after))
    if first.keys() != second.keys():
        odd = sorted(first.keys() ^ second.keys())
        raise ValueError(
            f"{names[0]} and {names[1]} were not measured on the same items of {measure}: {len(odd)} have a result of one "
            f"alone ({', '.join(odd[:3])}). Run stage evaluate for both with the same params."
        )
    pairs = [(first[item], second[item]) for item in sorted(first)]
    for one, other in pairs:
        if (one.tokens, one.size) != (other.tokens, other.size):
            raise ValueError(
                f"{measure} {one.item} has {one.tokens} tokens in {one.size} bytes for {names[0]}, {other.tokens} in "
                f"{other.size} for {names[1]}: nats per token compare only under one tokenizer."
            )
    return pairs


def _loss(measure: str, unit: str, pairs: Sequence[Pair], how: Bootstrap) -> Row:
    before, after = ([pair[side].value for pair in pairs] for side in (0, 1))
    weights, groups = [UNITS[unit](one) for one, _ in pairs], [one.group for one, _ in pairs]
    return Row(
        measure,
        "",
        unit,
        len(pairs),
        statistics.ratio(before, weights, groups, how),
        statistics.ratio(after, weights, groups, how),
        statistics.ratio_difference(before, after, weights, groups, how),
    )


def _tiers(tasks: Sequence[Pair]) -> Iterator[tuple[str, list[Pair]]]:
    """The tasks of each tier that there is, and all of them; nothing where no task was run."""
    found = {one.tier for one, _ in tasks if one.tier is not None}
    for tier in [*(tier for tier in TIERS if tier in found), *sorted(found - set(TIERS))]:
        yield tier, [pair for pair in tasks if pair[0].tier == tier]
    if tasks:
        yield "all", list(tasks)


def _passes(part: str, pairs: Sequence[Pair], how: Bootstrap) -> Row:
    before, after = ([pair[side].value for pair in pairs] for side in (0, 1))
    return Row(
        PASS,
        part,
        "share",
        len(pairs),
        statistics.proportion(int(sum(before)), len(before), how.confidence),
        statistics.proportion(int(sum(after)), len(after), how.confidence),
        statistics.proportion_difference(before, after, [one.group for one, _ in pairs], how),
        statistics.mcnemar(before, after),
    )
