"""The gate: the test that decides whether a candidate replaces the champion.

A candidate is promoted if it is better on the domain than the champion and, on every guarded measure, no worse than *any* model that was
ever promoted. Compared with the last model only, a loss could rise without limit, by less than the margin each time.

The more often a set is looked at, the more likely something looks better by chance. Look k against one champion is judged at the level
α / (k (k + 1)), and these levels sum to α. So the probability that a champion is ever replaced by a model that is no better, or that is worse by a
margin on some measure, is at most α for any number of nights. This is a union bound, which holds under any dependence of the nights. It assumes two
things: the bounds of one look hold (`bounds.ratio_bounds` says when they do not), and candidates are not chosen by the figures of the gate. The
record of a decision shows these figures to people, and nothing in the pipeline reads them. Every condition must hold, so none needs a correction
for the others (Berger 1982, intersection-union tests). The composition of these parts is ours. Shapes: N = items.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal, NamedTuple

import numpy as np
from pydantic import Field

from tasks.core import classification
from tasks.core.config import Config
from tasks.core.promotion import bounds
from tasks.core.records import DOMAIN_LOSSES, LOSSES, SCORED, Result
from tasks.core.statistics import Estimate

Finding = Literal["better", "no worse", "worse", "not decided", "not measured"]
Verdict = Literal["promoted", "refused", "not decided"]


class GateConfig(Config):
    """The `gate` section of params.yaml: the model that is promoted, and the rules for it."""

    candidate: str | None = None
    """The entry of `models` that the gate judges. The default is the compressed model, or the round that `compress` would take if nothing
    is compressed."""
    margins: dict[str, Annotated[float, Field(gt=0)]] = Field({"general": 0.05})
    """The guarded measures, and by how much each may be worse than any model ever promoted and still count as no worse. Units are nats
    per token for losses (`general`, `domain_text`), and a share of items for `pass@1`, for `pass@1 strong tests` (if `evaluate.strength`
    is set), for `preference accuracy` and for the measures of checks (`number accuracy`, `choice acc`, `labels macro-F1`, `json score`, …),
    which are measured on `evaluate.gate_items` of the gate set."""
    alpha: float = Field(0.05, gt=0, lt=0.5)
    """The probability, over all nights of a champion, that it is replaced by a model that should not have been promoted."""
    approval: Literal["none", "ask"] = "none"
    """With `ask`, a candidate that passes is promoted only after a person has approved it (`ratchet approve`)."""
    approval_hours: float = Field(24.0, gt=0)
    """Time for which a flow run waits for the approval. Without an answer, the candidate is refused."""

    license: str | None = None
    """The licence that a promoted model must have: an SPDX name, or several with OR. Without it, any licence that base and data allow will do."""
    licenses: Literal["refuse", "strict", "report"] = "refuse"
    """`refuse`: if the licences of base and data exclude each other or the wanted licence, there is no candidate. `report` only reports it.
    `strict` also refuses unknown licences. Weights are treated as a work derived from the data, which is the stricter of two readings."""

    @property
    def judging(self) -> "GateConfig":
        """Return the settings on which the judgement depends."""
        others = {"approval": "none", "approval_hours": 24.0, "license": None, "licenses": "refuse"}
        return self.model_copy(update=others)


class Bar(NamedTuple):
    """A model that was promoted, or the first base model."""

    name: str
    results: Sequence[Result]


@dataclass(frozen=True)
class Check:
    """The comparison of a candidate with one bar on one measure."""

    measure: str
    bar: str
    items: int
    worse_by: Estimate | None
    """The difference, positive if the candidate is worse. Each bound is missed with the probability of the look's level. None if there is nothing to compare."""
    margin: float
    """The allowed difference; 0 if the candidate must be better."""
    finding: Finding


@dataclass(frozen=True)
class Judgement:
    """The verdict of the gate on a candidate, with the checks behind it."""

    verdict: Verdict
    look: int
    """The number of looks at the gate set against this champion, including this one."""
    level: float
    checks: list[Check]
    """First the check of the measure that must be better, then those of the guarded measures, each against the bar that is hardest to meet."""

    @property
    def reason(self) -> str:
        """Return in words the checks that decided."""
        decisive = {"promoted": ("better", "no worse"), "refused": ("worse",)}
        deciding = [
            check
            for check in self.checks
            if check.finding in decisive.get(self.verdict, ("not decided", "not measured"))
        ]
        return "; ".join(map(in_words, deciding))


def level(look: int, alpha: float) -> float:
    """Return the error level of look number `look`, counted from 1."""
    return alpha / (look * (look + 1))


def judge(candidate: Sequence[Result], champion: Bar, ever: Sequence[Bar], look: int, rules: GateConfig) -> Judgement:
    """Judge a candidate against the champion, and against every model that was `ever` promoted.

    Raises ValueError if the candidate has no result of `DOMAIN_LOSSES`.
    """
    tail = level(look, rules.alpha)
    measured = {result.measure for result in candidate}
    domain_measure = next((measure for measure in DOMAIN_LOSSES if measure in measured), None)
    if domain_measure is None:
        raise ValueError(
            f"The gate set holds no item of {' or '.join(DOMAIN_LOSSES)}, so nothing can be better on it. `gate` in `ingest.splits` of "
            "params.yaml says how much of the data is held back for it."
        )
    checks = [_check(domain_measure, candidate, champion, 0.0, tail)]
    for measure, margin in rules.margins.items():
        against_bars = [_check(measure, candidate, bar, margin, tail) for bar in ever]
        checks.append(max(against_bars, key=_hardness))
    return Judgement(_verdict(checks), look, tail, checks)


def uncovered(candidate: Sequence[Result], bar: Bar) -> float:
    """Return the largest share, over the measures, of the candidate's items for which the bar has no comparable result."""
    known = {(result.measure, result.item): asked(result) for result in bar.results}
    missed: dict[str, list[bool]] = {}
    for result in candidate:
        missed.setdefault(result.measure, []).append(known.get((result.measure, result.item)) != asked(result))
    return float(max(np.mean(items) for items in missed.values()))


def in_words(check: Check) -> str:
    """Describe a check: the change of a loss or a share, with its bounds."""
    change_for_worse = check.worse_by
    if change_for_worse is None:
        return f"{check.measure}: not measured against {check.bar}"
    if not np.isfinite(change_for_worse.value):
        whose = "the candidate" if change_for_worse.value > 0 else check.bar
        return f"{check.measure} {check.finding} than {check.bar}: a value of {whose} is no number"
    word = f" {check.finding} than" if check.finding != "not decided" else ": not decided against"
    if check.measure in LOSSES:
        change, limit = (
            f"loss {change_for_worse.value:+.4f} [{change_for_worse.low:+.4f}, {change_for_worse.high:+.4f}] nats/token",
            check.margin,
        )
    else:
        change, limit = (
            f"share {-change_for_worse.value:+.4f} [{-change_for_worse.high:+.4f}, {-change_for_worse.low:+.4f}]",
            -check.margin,
        )
    margin = f", margin {limit:+g}" if check.margin else ""
    return f"{check.measure}{word} {check.bar}: {change}{margin}"


def worse_by(
    measure: str, after: Sequence[Result], before: Sequence[Result], tail: float
) -> tuple[Estimate, int] | None:
    """Return how much worse the later results are on the common items of a measure, and the number of these items; None without any.

    It is the rise of a loss in nats per token, or the fall of a share. Each bound is missed with probability `tail`.
    """
    pairs = _pairs(measure, after, before)
    return (_worse_by(measure, pairs, tail), len(pairs)) if pairs else None


def _check(measure: str, candidate: Sequence[Result], bar: Bar, margin: float, tail: float) -> Check:
    difference = worse_by(measure, candidate, bar.results, tail)
    if difference is None:
        return Check(measure, bar.name, 0, None, margin, "not measured")
    change, items = difference
    return Check(measure, bar.name, items, change, margin, _finding(change, margin))


def _finding(change: Estimate, margin: float) -> Finding:
    if change.high < margin:
        return "no worse" if margin else "better"
    return "worse" if change.low > margin else "not decided"


def _pairs(measure: str, candidate: Sequence[Result], bar: Sequence[Result]) -> list[tuple[Result, Result]]:
    """Pair the results of each item that both models answered under the same tokenizer and reference, the bar's result first."""
    source = classification.ACCURACY if measure == classification.MACRO_F1 else measure
    known = {result.item: result for result in bar if result.measure == source}
    both = [(known[result.item], result) for result in candidate if result.measure == source and result.item in known]
    return sorted((pair for pair in both if asked(pair[0]) == asked(pair[1])), key=lambda pair: pair[0].item)


def asked(result: Result) -> tuple[int, str]:
    """Return the parts of a result that must be equal in two comparable results. If data correct a reference, the item keeps its id."""
    return result.tokens, result.expected


def _worse_by(measure: str, pairs: Sequence[tuple[Result, Result]], tail: float) -> Estimate:
    if measure == classification.MACRO_F1:
        return _fall_of_macro_f1(pairs, tail)
    before_N, after_N = (np.array([pair[side].value for pair in pairs]) for side in (0, 1))
    groups = [one.group for one, _ in pairs]
    for values_N, worse in ((after_N, np.inf), (before_N, -np.inf)):
        if not np.isfinite(values_N).all():  # the result of a diverged training
            return Estimate(worse, worse, worse, len(set(groups)))
    if measure in LOSSES:
        return bounds.ratio_bounds(after_N - before_N, [one.tokens for one, _ in pairs], groups, tail)
    bounded = bounds.score_bounds if measure.endswith(SCORED) else bounds.share_bounds
    return bounded(before_N - after_N, groups, tail)


def _fall_of_macro_f1(pairs: Sequence[tuple[Result, Result]], tail: float) -> Estimate:
    before, after = ([pair[side].parsed for pair in pairs] for side in (0, 1))
    expected, groups = [one.expected for one, _ in pairs], [one.group for one, _ in pairs]
    return classification.macro_f1_bounds(expected, after, before, groups, tail)


def _hardness(check: Check) -> tuple[bool, bool, float]:
    """Return the sort key of bars: a bar that is clearly missed is the hardest, then one that cannot be compared."""
    return (
        check.finding == "worse",
        check.worse_by is None,
        check.worse_by.high - check.margin if check.worse_by else 0.0,
    )


def _verdict(checks: Sequence[Check]) -> Verdict:
    findings = {check.finding for check in checks}
    if "worse" in findings:
        return "refused"
    return "promoted" if findings <= {"better", "no worse"} else "not decided"
