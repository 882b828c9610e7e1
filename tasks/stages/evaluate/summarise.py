"""Summarise the results of one model: each measure with its confidence interval."""

import math
import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from statistics import fmean
from typing import Any, NamedTuple

from tasks.core import classification, statistics
from tasks.core.answers.labels import Labels
from tasks.core.records import EDITS, PASS, PREFERENCE, STRONG_PASS, Result
from tasks.stages.evaluate import wrong_items
from tasks.stages.evaluate.config import EvaluateConfig, StrengthConfig
from tasks.stages.evaluate.problem_sets import ProblemSet
from tasks.stages.evaluate.strength import Strength

TIERS = ("short", "medium", "long")
STRENGTHS = {"strong tests": False, "weak tests": True}
"""The parts of pass@1 by the strength of tests: the name, and whether the tests are weak."""
PARTS = {"domain": "domains", "task": "tasks"}
"""The fields of results by which figures are split, with the name of each split in the summary."""
Planned = tuple[ProblemSet, str | None]
"""A set of problems, and the reason if it is not run."""


class Measured(NamedTuple):
    """The results on one set of held-out data."""

    losses: list[Result]
    answers: list[Result]
    planned: list[Planned]
    level: int | None
    """The sandbox's level of isolation; None if no answers are programs."""

    @property
    def results(self) -> list[Result]:
        """All results, losses first."""
        return self.losses + self.answers

    def without(self, wrong: Collection[str]) -> "Measured":
        """Return the results without these items. Raises ValueError if a measure would have no item left."""
        planned = [(problems.without(wrong), not_run) for problems, not_run in self.planned]
        losses, answers = (wrong_items.leave_out(results, wrong) for results in (self.losses, self.answers))
        return self._replace(losses=losses, answers=answers, planned=planned)


def summarise(results: Sequence[Result], sets: Sequence[Planned], config: EvaluateConfig) -> dict[str, Any]:
    """Return every measure by name: losses in nats per token and bits per byte, pass@1 by tier or the reason it was not run.

    The measures of checks and preferences are under `answers`, with counts of outcomes, and figures by domain or task if there are several.

    The measures of a named set are under its name. Intervals of losses and of sampled pass@k are bootstrapped over groups; intervals of the
    greedy pass@1 are exact.
    """
    bootstrap = statistics.Bootstrap(seed=config.seed, confidence=config.confidence)
    measures = dict.fromkeys(row.measure for row in results if row.is_loss)
    summary = {measure: _loss([row for row in results if row.measure == measure], bootstrap) for measure in measures}
    for problem_set, not_run in sets:
        if problem_set.check:
            summary.setdefault("answers", {}).update(_checked(problem_set, results, not_run, bootstrap))
            continue
        figures = _problem_set(problem_set, results, not_run, config, bootstrap)
        summary |= {problem_set.name: figures} if problem_set.name else figures
    for measure in (PREFERENCE, *EDITS):
        if rows := [row for row in results if row.measure == measure]:
            summary.setdefault("answers", {})[measure] = _answers(rows, bootstrap)
    return summary


def first_measures(summary: Mapping[str, Any], solved: Sequence[Result]) -> dict[str, float]:
    """Return every measure of answers, under a name that MLflow accepts: letters, digits and underscores."""
    measures = dict.fromkeys(row.measure for row in solved if "pass@" in row.measure)
    values = {measure: round(fmean(row.value for row in solved if row.measure == measure), 6) for measure in measures}
    values |= {
        measure: figures["all"]["value"] for measure, figures in summary.get("answers", {}).items() if "all" in figures
    }
    return {re.sub(r"\W+", "_", measure.replace("@", "_at_")): value for measure, value in values.items()}


def _checked(
    problem_set: ProblemSet, results: Sequence[Result], not_run: str | None, bootstrap: statistics.Bootstrap
) -> dict[str, Any]:
    """Return the figures of each measure of a kind of check."""
    if not_run:
        return {problem_set.first: {"not_run": not_run}}
    others = problem_set.check.beside if problem_set.check else ()
    by_measure = {name: [row for row in results if row.measure == name] for name in (problem_set.first, *others)}
    figures = {name: _answers(rows, bootstrap) for name, rows in by_measure.items() if rows}
    if isinstance(problem_set.check, Labels):
        rows = [row for row in results if row.measure == problem_set.first]
        expected, labels, groups = zip(*((row.expected, row.parsed, row.group) for row in rows), strict=True)
        macro_f1 = classification.macro_f1(expected, labels, groups, bootstrap).record()
        figures[classification.MACRO_F1] = {
            "all": macro_f1,
            "confusion": classification.confusion(expected, labels),
        }
    return figures


def _answers(rows: Sequence[Result], bootstrap: statistics.Bootstrap) -> dict[str, Any]:
    parts = {
        name: {part: answers_estimate(some, bootstrap).record() for part, some in _parts(rows, name).items()}
        for name in PARTS
    }
    return {
        "all": answers_estimate(rows, bootstrap).record(),
        **{title: parts[name] for name, title in PARTS.items() if parts[name]},
        "outcomes": _verdicts(rows),
    }


def _parts(rows: Sequence[Result], name: str) -> dict[str, list[Result]]:
    """Return the results by the values of a field, `domain` or `task`; none if all results have the same value."""
    values = sorted({getattr(row, name) for row in rows})
    return {value: [row for row in rows if getattr(row, name) == value] for value in values} if len(values) > 1 else {}


def answers_estimate(rows: Sequence[Result], bootstrap: statistics.Bootstrap) -> statistics.Estimate:
    """Return the share of right answers with its exact interval, or the mean of scores with an interval bootstrapped over groups."""
    values = [row.value for row in rows]
    if all(row.is_binary for row in rows):
        return statistics.proportion(int(sum(values)), len(values), bootstrap.confidence)
    return statistics.share(values, [row.group for row in rows], bootstrap)


def _loss(rows: Sequence[Result], bootstrap: statistics.Bootstrap) -> dict[str, Any]:
    nats, tokens, groups = [row.value for row in rows], [row.tokens for row in rows], [row.group for row in rows]
    is_number = all(map(math.isfinite, nats))  # a training can diverge
    estimate = statistics.ratio(nats, tokens, groups, bootstrap).record() if is_number else {}
    return {
        "loss": estimate.get("value"),
        "low": estimate.get("low"),
        "high": estimate.get("high"),
        "bits_per_byte": round(sum(nats) / math.log(2) / sum(row.size for row in rows), 6) if is_number else None,
        "items": len(rows),
        "groups": len(set(groups)),
        "tokens": sum(tokens),
        **(
            {"tasks": tasks}
            if (tasks := {name: _loss(some, bootstrap) for name, some in _parts(rows, "task").items()})
            else {}
        ),
    }


def _problem_set(
    problem_set: ProblemSet,
    results: Sequence[Result],
    not_run: str | None,
    config: EvaluateConfig,
    bootstrap: statistics.Bootstrap,
) -> dict[str, Any]:
    def of(*measures: str) -> list[Result]:
        names = {problem_set.measure(measure) for measure in measures}
        return [row for row in results if row.measure in names]

    first = of(PASS)
    figures = {
        PASS: {"not_run": not_run} if not_run else _passed(first, config.confidence),
        "outcomes": _verdicts(first),
    }
    if config.strength and problem_set.strengths:
        figures[PASS] |= {} if not_run else _by_strength(first, problem_set.strengths, config)
        figures["strength"] = strength_record(problem_set.strengths, config.strength)
    if config.samples and not not_run:
        drawn = of(*(f"sample {number}" for number in range(config.samples)))
        chances = {f"pass@{k}": _chance(of(f"sampled pass@{k}"), bootstrap) for k in config.ks}
        figures["sampled"] = chances | {"outcomes": _verdicts(drawn)}
    return figures


def _passed(rows: Sequence[Result], confidence: float) -> dict[str, Any]:
    tiers = {tier: [row for row in rows if row.tier == tier] for tier in TIERS}
    shown = {"all": list(rows)} | {tier: tier_rows for tier, tier_rows in tiers.items() if tier_rows}
    return {
        tier: statistics.proportion(int(sum(row.value for row in tier_rows)), len(tier_rows), confidence).record()
        for tier, tier_rows in shown.items()
    }


def _by_strength(
    rows: Sequence[Result], strengths: Mapping[str, Strength], config: EvaluateConfig
) -> dict[str, dict[str, float | None]]:
    """Return pass@1 of the problems with strong tests and of those with weak tests; a part without problems is left out."""
    assert config.strength
    is_weak = {item: strength.is_weak(config.strength.least) for item, strength in strengths.items()}
    parts = {name: [row for row in rows if is_weak.get(row.item) is weak] for name, weak in STRENGTHS.items()}
    return {
        name: statistics.proportion(int(sum(row.value for row in part)), len(part), config.confidence).record()
        for name, part in parts.items()
        if part
    }


def on_strong_tests(
    results: Sequence[Result], strengths: Mapping[str, Strength], config: StrengthConfig
) -> list[Result]:
    """Return the results of pass@1 on problems whose tests are not weak, as a separate measure that a gate can guard."""
    strong = {item for item, strength in strengths.items() if not strength.is_weak(config.least)}
    return [replace(row, measure=STRONG_PASS) for row in results if row.measure == PASS and row.item in strong]


def strength_record(strengths: Mapping[str, Strength], config: StrengthConfig) -> dict[str, Any]:
    """Return the mean share of mutants that tests kill, the number of weak tests, and the record of each problem."""
    records = {item: strength.record(config.least) for item, strength in sorted(strengths.items())}
    return {
        "mean": round(fmean(strength.share for strength in strengths.values()), 6),
        "weak": sum(strength.is_weak(config.least) for strength in strengths.values()),
        "constants": sum(bool(strength.constant) for strength in strengths.values()),
        "strengthened": sum(strength.inputs > 0 for strength in strengths.values()),
        "items": records,
    }


def _chance(rows: Sequence[Result], bootstrap: statistics.Bootstrap) -> dict[str, Any]:
    return statistics.share([row.value for row in rows], [row.group for row in rows], bootstrap).record()


def _verdicts(rows: Sequence[Result]) -> dict[str, int]:
    return dict(sorted(Counter(row.outcome for row in rows).items()))
