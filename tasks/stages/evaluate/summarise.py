"""Figures of one model from its items, each with its interval."""

import math
from collections import Counter
from collections.abc import Sequence
from statistics import fmean
from typing import Any

from tasks.core import statistics
from tasks.core.records import Result
from tasks.stages.evaluate.exams import Exam
from tasks.stages.evaluate.params import EvaluateParams

TIERS = ("short", "medium", "long")


Held = tuple[Exam, str | None]
"""An exam, and why it was not run, if it was not."""


def summarise(results: Sequence[Result], exams: Sequence[Held], params: EvaluateParams) -> dict[str, Any]:
    """Every measure by name: losses in nats per token and bits per byte, pass@1 by tier or the reason it was not run.

    The figures of an exam that has a name stand under it. Intervals of losses and of pass@k by sampling come from resampling
    groups; those of the greedy pass@1 are exact.
    """
    how = statistics.Bootstrap(seed=params.seed, confidence=params.confidence)
    measures = dict.fromkeys(row.measure for row in results if row.is_loss)
    found = {measure: _loss([row for row in results if row.measure == measure], how) for measure in measures}
    for exam, not_run in exams:
        figures = _exam(exam, results, not_run, params, how)
        found |= {exam.name: figures} if exam.name else figures
    return found


def shares(solved: Sequence[Result]) -> dict[str, float]:
    """The mean of every measure of passing, by a name of letters, digits and underscores."""
    measures = dict.fromkeys(row.measure for row in solved if "pass@" in row.measure)
    return {
        measure.replace("@", "_at_").replace(" ", "_"): round(fmean(r.value for r in solved if r.measure == measure), 6)
        for measure in measures
    }


def _loss(rows: Sequence[Result], how: statistics.Bootstrap) -> dict[str, Any]:
    nats, tokens = [row.value for row in rows], [row.tokens for row in rows]
    estimate = statistics.ratio(nats, tokens, [row.group for row in rows], how).record()
    return {
        "loss": estimate["value"],
        "low": estimate["low"],
        "high": estimate["high"],
        "bits_per_byte": round(sum(nats) / math.log(2) / sum(row.size for row in rows), 6),
        "items": len(rows),
        "groups": estimate["n"],
        "tokens": sum(tokens),
    }


def _exam(
    exam: Exam, results: Sequence[Result], not_run: str | None, params: EvaluateParams, how: statistics.Bootstrap
) -> dict[str, Any]:
    def of(*measures: str) -> list[Result]:
        names = {exam.measure(measure) for measure in measures}
        return [row for row in results if row.measure in names]

    first = of("pass@1")
    found = {
        "pass@1": {"not_run": not_run} if not_run else _passed(first, params.confidence),
        "outcomes": _outcomes(first),
    }
    if params.samples and not not_run:
        drawn = of(*(f"sample {number}" for number in range(params.samples)))
        chances = {f"pass@{k}": _chance(of(f"sampled pass@{k}"), how) for k in params.ks}
        found["sampled"] = chances | {"outcomes": _outcomes(drawn)}
    return found


def _passed(rows: Sequence[Result], confidence: float) -> dict[str, Any]:
    tiers = {tier: [row for row in rows if row.tier == tier] for tier in TIERS}
    shown = {"all": list(rows)} | {tier: found for tier, found in tiers.items() if found}
    return {
        tier: statistics.proportion(int(sum(row.value for row in found)), len(found), confidence).record()
        for tier, found in shown.items()
    }


def _chance(rows: Sequence[Result], how: statistics.Bootstrap) -> dict[str, Any]:
    return statistics.share([row.value for row in rows], [row.group for row in rows], how).record()


def _outcomes(rows: Sequence[Result]) -> dict[str, int]:
    return dict(sorted(Counter(row.outcome for row in rows).items()))
