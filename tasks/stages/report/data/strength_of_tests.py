"""Compare the answers of two models separately for problems with strong tests and with weak tests."""

from collections.abc import Iterator, Mapping
from typing import Any

from tasks.core.records import PASS
from tasks.core.statistics import Bootstrap
from tasks.stages.report.data.comparison import HUMAN_EVAL, Comparison, Row, pass_row

Metrics = Mapping[str, Any]
PARTS = {"strong tests": False, "weak tests": True}
"""Part of pass@1 → True if its tests are weak."""


def strength_rows(comparison: Comparison, metrics: Mapping[str, Metrics], bootstrap: Bootstrap) -> Iterator[Row]:
    """Yield pass@1 by the strength of tests, for held-out tasks and for HumanEval; nothing if the strength was not measured."""
    for measure, problem_set in ((PASS, ""), (f"{HUMAN_EVAL}{PASS}", HUMAN_EVAL.strip())):
        items = measured(metrics[comparison.after], problem_set).get("items", {})
        pairs = [pair for pair in comparison.first_answers if pair[0].measure == measure]
        for part, is_weak in PARTS.items():
            if chosen := [pair for pair in pairs if items.get(pair[0].item, {}).get("weak") is is_weak]:
                yield pass_row(measure, part, chosen, bootstrap)


def measured(metrics: Metrics, problem_set: str = "") -> Metrics:
    """Return the strength of a set's tests from the metrics of stage `evaluate`; empty if it was not measured."""
    figures: Metrics = metrics.get(problem_set, {}) if problem_set else metrics
    strength: Metrics = figures.get("strength", {})
    return strength


def sentence(metrics: Metrics) -> str:
    """Return sentences about the strength of tests; empty if it was not measured."""
    sets = {
        "the held-out tasks": measured(metrics),
        "HumanEval": measured(metrics, HUMAN_EVAL.strip()),
        "the gate set": measured(metrics, "gate_set"),
    }
    return " ".join(_sentence(name, strength) for name, strength in sets.items() if strength)


def _sentence(name: str, strength: Metrics) -> str:
    total = len(strength["items"])
    words = (
        f"Tests of {name} notice {100 * strength['mean']:.0f} % of small mistakes in their solutions; those of {strength['weak']} of {total} "
        f"are weak ({strength['constants']} of these let a constant function pass)."
    )
    if added := strength["strengthened"]:
        words += f" {added} have further inputs, made by Ratchet from their own, with the outputs of the solution."
    return words
