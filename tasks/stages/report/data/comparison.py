"""What a model gains or loses against another, measure by measure, on the items that both were given."""

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tasks.core import statistics
from tasks.core.records import Result
from tasks.core.statistics import Bootstrap, Estimate

LOSSES = {"domain": "domain loss", "domain_text": "domain text loss", "general": "general loss"}
"""Each measure in words, in the order they are told. Examples and corpora are a choice, so any may be missing."""
HERE = ("domain", "domain_text")
"""The first of these that was measured decides what a model is worth here."""
PASS = "pass@1"
HUMAN_EVAL = "human_eval "
"""What stands before a measure of HumanEval."""
SCORE = "score"
"""The unit of standard benchmarks, each with a scale of its own."""
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
    """The tier of a pass@1 row, `all` for every task; empty for others."""
    unit: str
    """`nats/token`, `bits/byte`, `share` for what passes, or `score`."""
    items: int
    before: Estimate
    after: Estimate
    difference: Estimate
    p: float | None = None
    """Exact p-value of McNemar's test, for first answers."""

    @property
    def words(self) -> str:
        """The measure as people call it."""
        return LOSSES.get(self.measure, self.measure.replace(HUMAN_EVAL, "HumanEval "))


@dataclass(frozen=True)
class Comparison:
    """Two models, row by row."""

    before: str
    after: str
    rows: list[Row]
    answers: dict[str, list[Pair]]
    """The answers of both, by what they are in words."""

    @property
    def tasks(self) -> list[Pair]:
        """The answers of both to each task of pass@1."""
        return self.answers.get(_kind(PASS), [])

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
    """Every measure of two named models that has items. Raises ValueError where they were not measured on the same items."""
    names = before[0], after[0]
    losses = {measure: _pair(measure, names, before[1], after[1]) for measure in LOSSES}
    if not any(losses[measure] for measure in HERE):
        raise ValueError(
            f"{names[0]} and {names[1]} have no result of {' or '.join(HERE)}: run stage evaluate for both."
        )
    solved = {row.measure for row in (*before[1], *after[1]) if not row.is_loss}
    exams = {measure: _pair(measure, names, before[1], after[1]) for measure in sorted(solved, key=_order)}
    rows = [_loss(measure, unit, pairs, how) for unit in UNITS for measure, pairs in losses.items() if pairs]
    rows += [_passes(PASS, part, pairs, how) for part, pairs in _tiers(exams.get(PASS, []))]
    for measure, pairs in exams.items():
        if "sampled" in measure:
            rows.append(_chances(measure, pairs, how))
        elif measure.endswith(PASS) and measure != PASS:
            rows.append(_passes(measure, "", pairs, how))
    return Comparison(*names, rows, _answers(exams))


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


def _order(measure: str) -> tuple[bool, list[Any]]:
    """HumanEval last, and numbers by their size."""
    parts = re.split(r"(\d+)", measure)
    return measure.startswith(HUMAN_EVAL), [int(part) if part.isdigit() else part for part in parts]


def _tiers(tasks: Sequence[Pair]) -> Iterator[tuple[str, list[Pair]]]:
    """The tasks of each tier that there is, and all of them; nothing where no task was run."""
    found = {one.tier for one, _ in tasks if one.tier is not None}
    for tier in [*(tier for tier in TIERS if tier in found), *sorted(found - set(TIERS))]:
        yield tier, [pair for pair in tasks if pair[0].tier == tier]
    if tasks:
        yield "all", list(tasks)


def _passes(measure: str, part: str, pairs: Sequence[Pair], how: Bootstrap) -> Row:
    before, after = ([pair[side].value for pair in pairs] for side in (0, 1))
    return Row(
        measure,
        part,
        "share",
        len(pairs),
        statistics.proportion(int(sum(before)), len(before), how.confidence),
        statistics.proportion(int(sum(after)), len(after), how.confidence),
        statistics.proportion_difference(before, after, [one.group for one, _ in pairs], how),
        statistics.mcnemar(before, after),
    )


def _chances(measure: str, pairs: Sequence[Pair], how: Bootstrap) -> Row:
    """The row of pass@k by sampling: of each task a chance, and not a yes or no."""
    before, after = ([pair[side].value for pair in pairs] for side in (0, 1))
    groups = [one.group for one, _ in pairs]
    return Row(
        measure,
        "",
        "share",
        len(pairs),
        statistics.share(before, groups, how),
        statistics.share(after, groups, how),
        statistics.proportion_difference(before, after, groups, how),
    )


def _answers(exams: Mapping[str, list[Pair]]) -> dict[str, list[Pair]]:
    found: dict[str, list[Pair]] = {}
    for measure, pairs in exams.items():
        if "sampled" not in measure:  # those are not answers, but chances of several
            found.setdefault(_kind(measure), []).extend(pairs)
    return found


def _kind(measure: str) -> str:
    """What the answers behind a measure are."""
    tasks = "HumanEval" if measure.startswith(HUMAN_EVAL) else "held-out tasks"
    return f"{tasks}, {'first' if measure.endswith(PASS) else 'drawn'} answers"
