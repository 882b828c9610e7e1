"""Compare two models measure by measure on the items that both were given."""

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from tasks.core import classification, paired, records, statistics
from tasks.core.answers import registry
from tasks.core.answers.choice import Choice
from tasks.core.answers.judge import Judge
from tasks.core.answers.tool_call import ToolCall
from tasks.core.answers.unit_tests import UnitTests
from tasks.core.promotion import bounds
from tasks.core.records import DOMAIN_LOSSES, EDITS, LOCALITY, PASS, PREFERENCE, STRONG_PASS, Result
from tasks.core.statistics import Bootstrap, Estimate

LOSSES = {measure: f"{measure.replace('_', ' ')} loss" for measure in records.LOSSES}
"""Measure → its name in text, in the order of the report. Examples and corpora are optional, so any measure may be missing."""
HUMAN_EVAL = "human_eval "
"""Prefix of the measures of HumanEval."""
SCORE = "score"
"""The unit of standard benchmarks, each of which has its own scale."""
NOT_WRITTEN = (PREFERENCE, *Choice.beside, *Judge.beside, *ToolCall.beside, *UnitTests.beside)
"""The measures without answers of their own: the model chooses among given answers, the pairs are planted for a judge, or the measure is
another one of answers that a first measure already has."""
CHECKS = (*registry.measures(), classification.MACRO_F1, PREFERENCE, *EDITS)
"""The measures of answers that a check grades, of preference pairs, and of facts written into the model."""
TIERS = ("short", "medium", "long")
NATS = "nats/token"
UNITS: dict[str, Callable[[Result], float]] = {
    NATS: lambda result: result.tokens,
    "bits/byte": lambda result: result.size * math.log(2),
}
"""Unit → the divisor of summed nats."""

Pair = tuple[Result, Result]


@dataclass(frozen=True)
class Row:
    """One measure of two models, and their paired difference (after minus before)."""

    measure: str
    part: str
    """The tier of a pass@1 row, or `all`; the domain or task in a row of a check or loss with several (`math (task)` if a domain is named `math`
    too); empty for other measures."""
    unit: str
    """`nats/token`, `bits/byte`, `share` for shares of right answers and for scores from 0 to 1, or `score` for a standard benchmark."""
    items: int
    before: Estimate
    after: Estimate
    difference: Estimate
    test: Literal["mcnemar", "sign_flip"] | None = None
    """McNemar's exact test for answers that are right or wrong, or a sign-flip test over groups' differences for scores."""
    p: float | None = None
    """Two-sided p-value of the test."""

    @property
    def title(self) -> str:
        """Return the name of the measure in text."""
        return LOSSES.get(self.measure, self.measure.replace(HUMAN_EVAL, "HumanEval "))


@dataclass(frozen=True)
class Comparison:
    """Two models, row by row."""

    before: str
    after: str
    rows: list[Row]
    answers: dict[str, list[Pair]]
    """The answers of both models, by kind, such as `HumanEval, first answers`."""

    @property
    def tasks(self) -> list[Pair]:
        """Return the answers of both models to each task of pass@1."""
        return self.answers.get(_kind(PASS), [])

    @property
    def first_answers(self) -> list[Pair]:
        """Return the first answers of both models to tasks of pass@1 and of HumanEval."""
        return [pair for measure in (PASS, f"{HUMAN_EVAL}{PASS}") for pair in self.answers.get(_kind(measure), [])]

    @property
    def written(self) -> list[Pair]:
        """Return the greedy answers of both models to held-out tasks and questions."""
        kinds = (_kind(PASS), *(measure for measure in CHECKS if measure not in NOT_WRITTEN))
        return [pair for kind in kinds for pair in self.answers.get(kind, [])]

    @property
    def deciding_loss(self) -> Row | None:
        """Return the loss that decides whether the second model is better: on examples, or on texts if there are no examples; else None."""
        return next((row for measure in DOMAIN_LOSSES if (row := self.row(measure))), None)

    @property
    def accuracy(self) -> Row | None:
        """Return pass@1 of all held-out tasks, else the share of answers that a check accepts; None without either."""
        measures = ((PASS, "all"), *((measure, "") for measure in CHECKS if measure not in NOT_WRITTEN))
        return next((row for name, part in measures if (row := self.row(name, part, "share"))), None)

    def row(self, measure: str, part: str = "", unit: str = "nats/token") -> Row | None:
        """Return the row of a measure; None if it was not measured."""
        return next((row for row in self.rows if (row.measure, row.part, row.unit) == (measure, part, unit)), None)


def compare(
    before: tuple[str, Sequence[Result]], after: tuple[str, Sequence[Result]], bootstrap: Bootstrap = statistics.DEFAULT
) -> Comparison:
    """Compare two named models in every measure with items. Raises ValueError if their items differ, or if neither model was measured."""
    names, sides = (before[0], after[0]), (_by_measure(before[1]), _by_measure(after[1]))
    losses = {measure: _pair(measure, names, sides) for measure in LOSSES}
    if not before[1] and not after[1]:
        raise ValueError(f"{names[0]} and {names[1]} have no result of anything: run stage evaluate for both.")
    task_measures = {*sides[0], *sides[1]} - LOSSES.keys()
    tasks = {measure: _pair(measure, names, sides) for measure in sorted(task_measures, key=_order)}
    rows = [
        _loss_row(measure, part, unit, some, bootstrap)
        for unit in UNITS
        for measure, pairs in losses.items()
        for part, some in _parts(pairs, ("task",) if unit == NATS else ()).items()
        if some
    ]
    rows += [pass_row(PASS, part, pairs, bootstrap) for part, pairs in _by_tier(tasks.get(PASS, []))]
    for measure, pairs in tasks.items():
        if measure == STRONG_PASS:  # in results of the gate set, which repeat some of its first answers under this name
            rows.append(pass_row(PASS, STRONG_PASS.removeprefix(PASS).strip(), pairs, bootstrap))
        elif "sampled" in measure:
            rows.append(_score_row(measure, "", pairs, bootstrap))
        elif measure.endswith(PASS) and measure != PASS:
            rows.append(pass_row(measure, "", pairs, bootstrap))
    rows += [row for measure in CHECKS if tasks.get(measure) for row in _check_rows(measure, tasks[measure], bootstrap)]
    return Comparison(*names, rows, _answers(tasks))


def _by_measure(results: Sequence[Result]) -> dict[str, dict[str, Result]]:
    """Return measure → item → its result."""
    measures: dict[str, dict[str, Result]] = {}
    for result in results:
        measures.setdefault(result.measure, {})[result.item] = result
    return measures


def _pair(measure: str, names: tuple[str, str], sides: Sequence[Mapping[str, Mapping[str, Result]]]) -> list[Pair]:
    """Return the results of both models for each item, in the order of the items."""
    first, second = (side.get(measure, {}) for side in sides)
    if first.keys() != second.keys():
        unpaired = sorted(first.keys() ^ second.keys())
        raise ValueError(
            f"{names[0]} and {names[1]} were not measured on the same items of {measure}: {len(unpaired)} have a result of "
            f"one alone ({', '.join(unpaired[:3])}). Run stage evaluate for both with the same params."
        )
    pairs = [(first[item], second[item]) for item in sorted(first)]
    for a, b in pairs:
        # Older tables have no reference, and locality compares a model with its own earlier answers.
        if a.expected != b.expected and a.expected and b.expected and measure != LOCALITY:
            raise ValueError(
                f"{measure} {a.item} was compared with {a.expected[:40]!r} for {names[0]} and {b.expected[:40]!r} for {names[1]}: the "
                "reference in the data has changed. Run stage evaluate for both on the same data."
            )
        if (a.tokens, a.size) != (b.tokens, b.size):
            raise ValueError(
                f"{measure} {a.item} has {a.tokens} tokens in {a.size} bytes for {names[0]}, {b.tokens} in "
                f"{b.size} for {names[1]}: nats per token compare only under one tokenizer."
            )
    return pairs


def _parts(pairs: Sequence[Pair], fields: Sequence[str]) -> dict[str, list[Pair]]:
    """Return all pairs, under an empty name, followed by the pairs of each value of those fields that have several values.

    If an earlier field has the same value for other pairs, the name of the field is added: `math (task)`.
    """
    parts = {"": list(pairs)}
    for name in fields:
        values = sorted({getattr(result, name) for result, _ in pairs})
        for value in filter(None, values) if len(values) > 1 else ():
            some = [pair for pair in pairs if getattr(pair[0], name) == value]
            if parts.get(value) != some:
                parts[f"{value} ({name})" if value in parts else value] = some
    return parts


def _loss_row(measure: str, part: str, unit: str, pairs: Sequence[Pair], bootstrap: Bootstrap) -> Row:
    """Return the row of a loss. If the loss of an item is not finite, the model's loss and the difference are NaN."""
    before, after = ([pair[side].value for pair in pairs] for side in (0, 1))
    weights, groups = [UNITS[unit](result) for result, _ in pairs], [result.group for result, _ in pairs]
    no_number = Estimate(math.nan, math.nan, math.nan, len(set(groups)))
    are_numbers = [all(map(math.isfinite, values)) for values in (before, after)]
    return Row(
        measure,
        part,
        unit,
        len(pairs),
        statistics.ratio(before, weights, groups, bootstrap) if are_numbers[0] else no_number,
        statistics.ratio(after, weights, groups, bootstrap) if are_numbers[1] else no_number,
        statistics.ratio_difference(before, after, weights, groups, bootstrap) if all(are_numbers) else no_number,
    )


def _order(measure: str) -> tuple[bool, list[Any]]:
    """Return the sort key of a measure: HumanEval last, and numbers by their value."""
    parts = re.split(r"(\d+)", measure)
    return measure.startswith(HUMAN_EVAL), [int(part) if part.isdigit() else part for part in parts]


def _by_tier(tasks: Sequence[Pair]) -> Iterator[tuple[str, list[Pair]]]:
    """Yield the tasks of each tier, then all of them; nothing if no task was run."""
    tiers = {result.tier for result, _ in tasks if result.tier is not None}
    for tier in [*(tier for tier in TIERS if tier in tiers), *sorted(tiers - set(TIERS))]:
        yield tier, [pair for pair in tasks if pair[0].tier == tier]
    if tasks:
        yield "all", list(tasks)


def pass_row(measure: str, part: str, pairs: Sequence[Pair], bootstrap: Bootstrap) -> Row:
    """Return the row of answers that are right or wrong."""
    before, after = ([pair[side].value for pair in pairs] for side in (0, 1))
    return Row(
        measure,
        part,
        "share",
        len(pairs),
        statistics.proportion(int(sum(before)), len(before), bootstrap.confidence),
        statistics.proportion(int(sum(after)), len(after), bootstrap.confidence),
        _bounds_of_change(before, after, [result.group for result, _ in pairs], bootstrap),
        "mcnemar",
        statistics.mcnemar(before, after),
    )


def _bounds_of_change(
    before: Sequence[float], after: Sequence[float], groups: Sequence[str], bootstrap: Bootstrap
) -> Estimate:
    """Return the change of a share with the interval that the gate uses, which takes into account how rare changes are."""
    changes = [second - first for first, second in zip(before, after, strict=True)]
    return bounds.share_bounds(changes, groups, (1 - bootstrap.confidence) / 2)


def _check_rows(measure: str, pairs: Sequence[Pair], bootstrap: Bootstrap) -> Iterator[Row]:
    """Yield the rows of a check: all items, each domain and each task if there are several, and macro-F1 of labels."""
    for part, part_pairs in _parts(pairs, ("domain", "task")).items():
        make = pass_row if all(result.is_binary for result, _ in part_pairs) else _score_row
        yield make(measure, part, part_pairs, bootstrap)
    if measure == classification.ACCURACY:
        yield _macro_f1_row(pairs, bootstrap)


def _macro_f1_row(pairs: Sequence[Pair], bootstrap: Bootstrap) -> Row:
    """Return the row of macro-F1. It has no p-value: since it is not a mean over items, there are no differences whose signs could be flipped."""
    expected, groups = [one.expected for one, _ in pairs], [one.group for one, _ in pairs]
    before, after = ([pair[side].parsed for pair in pairs] for side in (0, 1))
    return Row(
        classification.MACRO_F1,
        "",
        "share",
        len(pairs),
        classification.macro_f1(expected, before, groups, bootstrap),
        classification.macro_f1(expected, after, groups, bootstrap),
        classification.macro_f1_difference(expected, before, after, groups, bootstrap),
    )


def _score_row(measure: str, part: str, pairs: Sequence[Pair], bootstrap: Bootstrap) -> Row:
    """Return the row of a measure with a value between 0 and 1 for each item, such as sampled pass@k."""
    before, after = ([pair[side].value for pair in pairs] for side in (0, 1))
    groups = [result.group for result, _ in pairs]
    changes = [second - first for first, second in zip(before, after, strict=True)]
    return Row(
        measure,
        part,
        "share",
        len(pairs),
        statistics.share(before, groups, bootstrap),
        statistics.share(after, groups, bootstrap),
        statistics.score_difference(before, after, groups, bootstrap),
        "sign_flip",
        paired.sign_flip(changes, groups, bootstrap.seed),
    )


def _answers(tasks: Mapping[str, list[Pair]]) -> dict[str, list[Pair]]:
    answers: dict[str, list[Pair]] = {}
    for measure, pairs in tasks.items():
        if "sampled" in measure or measure == STRONG_PASS:
            continue  # probabilities over several answers, and repeated first answers
        answers.setdefault(_kind(measure), []).extend(pairs)
    return answers


def _kind(measure: str) -> str:
    """Return the kind of answers behind a measure."""
    if measure in CHECKS:
        return measure
    tasks = "HumanEval" if measure.startswith(HUMAN_EVAL) else "held-out tasks"
    return f"{tasks}, {'first' if measure.endswith(PASS) else 'drawn'} answers"
