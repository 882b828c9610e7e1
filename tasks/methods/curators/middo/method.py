"""Functions of Middo. Equations and the legend of symbols are in the card, `__init__.py`."""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from tasks.core.config import share_of
from tasks.core.records import Signals, content_id
from tasks.core.text.reasoning import answer_of
from tasks.methods.curators import Curator, Limit, Question
from tasks.methods.curators.middo.config import MiddoConfig

PASSES: Mapping[str, Mapping[str, int]] = {
    "hard": {"loss_before": 1, "loss_after": 1},
    "low": {"quality": -1},
    "sparse": {"neighbour_similarity": -1},
}
"""Set → the signals that must all lie beyond their thresholds, each with the side: 1 above, -1 below."""
BADNESS: Mapping[str, Callable[[Signals], float]] = {
    "hard": lambda row: row.loss_after or 0.0,
    "low": lambda row: -(row.quality or 0.0),
    "sparse": lambda row: -(row.neighbour_similarity or 0.0),
}
"""Set → the figure by which its members are ordered: the larger, the worse."""
ROUNDING = 1e-12
"""Tolerance, relative to the larger of mean and threshold: within it a value counts as equal to its threshold, not as beyond it."""


def limit(values: Sequence[float], m: float, *, sample: bool = False) -> Limit | None:
    """Return mean + m std of the values as a limit; None if they are too few to have a std."""
    if len(values) <= sample:
        return None
    mean, std = float(np.mean(values)), float(np.std(values, ddof=int(sample)))
    threshold = mean + m * std
    return Limit(mean, std, threshold if math.isfinite(threshold) else None)


def limits(signals: Sequence[Signals], config: MiddoConfig) -> dict[str, Limit]:
    """Return the limit of each signal, over the examples that have it."""
    m = {
        "loss_before": config.complexity,
        "loss_after": config.complexity,
        "quality": -config.quality,
        "neighbour_similarity": -config.diversity,
    }
    known = {name: [value for row in signals if (value := getattr(row, name)) is not None] for name in m}
    bounds = {name: limit(known[name], m[name], sample=name == "quality") for name in m}
    return {name: value for name, value in bounds.items() if value is not None}


def flags(row: Signals, bounds: Mapping[str, Limit]) -> list[str]:
    """Return the sets in which the limits put an example."""
    return [
        name
        for name, signals in PASSES.items()
        if all(_beyond(getattr(row, signal), bounds.get(signal), side) for signal, side in signals.items())
    ]


def _beyond(value: float | None, bound: Limit | None, side: int) -> bool:
    if value is None or bound is None or bound.threshold is None:
        return False
    return side * (value - bound.threshold) > ROUNDING * max(abs(bound.mean), abs(bound.threshold))


def choose(signals: Sequence[Signals], config: MiddoConfig) -> tuple[list[Signals], dict[str, Limit]]:
    """Return the signals with the sets that each example is in by the limits, and those that it stays in under the cap."""
    bounds = limits(signals, config)
    flagged = [replace(row, flags=flags(row, bounds)) for row in signals]
    room = share_of(sum(not row.excluded for row in signals), config.cap)
    kept = {name: _worst(flagged, name, room) for name in PASSES}
    chosen = {row.example: [name for name in PASSES if row.example in kept[name]] for row in flagged}
    if config.control != "none":
        chosen = _elsewhere(flagged, chosen, config)
    return [replace(row, chosen=chosen.get(row.example, [])) for row in flagged], bounds


def _worst(signals: Sequence[Signals], name: str, room: int) -> set[str]:
    """Return the worst members of a set, at most `room`; of equal ones the one with the lower id."""
    members = [row for row in signals if name in row.flags]
    return {row.example for row in sorted(members, key=lambda row: (-BADNESS[name](row), row.example))[:room]}


def _elsewhere(
    signals: Sequence[Signals], chosen: Mapping[str, list[str]], config: MiddoConfig
) -> dict[str, list[str]]:
    """Return the sets, given to equally many other examples, the first in the control's order."""
    orders: Mapping[str, Callable[[Signals], Any]] = {
        "random": lambda row: content_id(str(config.seed), row.example),
        "loss": lambda row: (-BADNESS["hard"](row), row.example),
    }
    order = sorted((row for row in signals if not row.excluded), key=orders[config.control])
    handed = sorted((sets for sets in chosen.values() if sets), key=lambda sets: list(PASSES).index(sets[0]))
    return {row.example: sets for row, sets in zip(order, handed, strict=False)}


def explain(row: Signals, bounds: Mapping[str, Limit]) -> list[str]:
    """Return a sentence for each set that an example is in, with the figures that put it there."""
    texts = {
        "hard": "hard to learn: {loss_before} before the training and {loss_after} after it, in nats a token of its response",
        "low": "of low quality: the model's own judgements of it average {quality}",
        "sparse": "alone: the mean cosine to the prompts nearest to it is {neighbour_similarity}",
    }
    sentences = []
    for name in row.flags:
        figures = {signal: _figure(getattr(row, signal), bounds[signal], side) for signal, side in PASSES[name].items()}
        remark = "" if name in row.chosen else "; left as it is, since others of the set are worse"
        sentences.append(texts[name].format(**figures) + remark)
    others = [
        f"chosen as a control, in the place of one that is {name}" for name in row.chosen if name not in row.flags
    ]
    return sentences + others


def _figure(value: float, bound: Limit, side: int) -> str:
    return f"{value:.3g} ({'over' if side > 0 else 'under'} {bound.threshold:.3g}; the mean is {bound.mean:.3g})"


QUESTIONS = {
    "prompt_factuality": Question("Are the facts that the instruction takes for granted right?", False),
    "prompt_clarity": Question("Is the instruction clear, and can it be understood in one way only?", False),
    "prompt_completeness": Question("Does the instruction hold all that one needs to follow it?", False),
    "response_factuality": Question("Is what the response says right?", True),
    "response_clarity": Question("Is the response clear and well written?", True),
    "response_completeness": Question("Does the response do all that the instruction asks for?", True),
}
ANSWER = (
    "Begin your answer with `Score: ` and a number from 0 (not at all) to 10 (perfectly), then explain it. "
    "Give 10 only where nothing could be better."
)
_MARKS, _QUOTES = r"[\s:=*_`'\"]*", r"[*_`'\"]*"
_PLAIN, _END_OF_SCALE = r"[^)\]\d\n]", r"(?:0|10?)\s*="
_LABEL = rf"{_PLAIN}{{0,200}}+"  # without a limit, an answer of many open brackets would take time as the square of its length
_ENDS = rf"{_END_OF_SCALE}{_LABEL}(?:\d++\s*={_LABEL}){{0,9}}{_END_OF_SCALE}"
"""A scale with both ends explained, and anything between them; `8 = good` alone is a score."""
_SCALE = (
    r"(?:[01]\s*(?:to|and|[-–])|/|\bout of|(?<=[(\[])of|\bmax(?:\.|imum)?)\s*10(?!\d)"
    rf"(?:{_LABEL}(?:{_ENDS}|{_END_OF_SCALE}))?|{_ENDS}"
)
_NOTE = rf"(?:\s*[(\[](?:{_SCALE}|{_PLAIN}){{0,120}}+[)\]])?"
"""A bracket after the word "score" whose numbers are ends of the scale (`0-10`, `max. 10`); with another number it may hold the score."""
_CLOSED = rf"(?:{_QUOTES}[)\]>]|(?=\s*(?:/|(?:out )?of\b)))"
_END = rf"{_QUOTES}\s*(?:\Z|[\n/,;:(]|[-–—]\s|out of\b)"
SCORE = re.compile(
    rf"(?:\bscore\b{_NOTE}(?: is| of)?{_MARKS}|(?P<first>\A){_MARKS})"
    r"(?!(?<=\n)1[.)] )"  # not the first of a list below
    rf"(?P<open>[(\[<]{_QUOTES})?(?P<number>\d++(?:\.\d++)?+)(?(open){_CLOSED})"
    r"(?![ \t]*to\s*\d|[-–]\d)(?=(?:[ \t]*[-–—][ \t]*(?P<upper>\d++))?)"  # not "a score of 0 to 10"
    rf"(?(first)(?={_END}))",  # not "1. Yes", nor "2 mistakes", nor "(1) Yes"
    re.IGNORECASE,
)
DIGIT = "Answer with `Score: ` and one digit from 0 (not at all) to 9 (perfectly)."
LEAD = "Score: "


def score(text: str) -> float | None:
    """Return the score at the start of an answer, or after the word "score", at most 10; None for other numbers, ranges and negatives."""
    for match in SCORE.finditer(answer_of(text)):
        number = float(match["number"])
        if not match["upper"] or number >= float(match["upper"]):  # "8 - 2 mistakes" is no range
            return min(number, 10.0)
    return None


def expect(odds: Sequence[float]) -> float:
    """Return the mean of the digits 0 to 9 by their log-odds, rescaled to 0 to 10, because 10 itself is two tokens for most models."""
    weights = np.exp(np.asarray(odds, dtype=np.float64) - max(odds))
    return float(weights @ np.arange(10) / weights.sum() * 10 / 9)


def quality(scores: Sequence[float | None]) -> float | None:
    """Return the mean of an example's judgements, (1/3) sum over dimensions of (prompt + response) / 2; None unless all are known."""
    known = [value for value in scores if value is not None and math.isfinite(value)]
    return float(np.mean(known)) if known and len(known) == len(scores) else None


METHOD = Curator(
    choose=choose,
    explain=explain,
    neighbours=lambda config: config.neighbours,
    questions=QUESTIONS,
    answer=ANSWER,
    score=score,
    digit=DIGIT,
    lead=LEAD,
    expect=expect,
    quality=quality,
)
