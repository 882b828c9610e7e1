"""Find the limits of the measures in a comparison: tests that were not run, the sandbox level, passes that cannot be trusted."""

from collections.abc import Mapping
from typing import Any

from tasks.core.records import PASS
from tasks.core.stage import Model
from tasks.stages.report.data.comparison import CHECKS, Comparison

Metrics = Mapping[str, Mapping[str, Any]]
"""Model → the metrics that stage evaluate wrote."""
NAMED = 5
"""Most items that a sentence names."""


def reason_not_run(comparison: Comparison, metrics: Metrics) -> str | None:
    """Return the reason why there is no pass@1; None if there is one, or if other answers were measured and none has tests."""
    if comparison.tasks:
        return None
    reasons = [metrics[name].get(PASS, {}).get("not_run") for name in (comparison.before, comparison.after)]
    nothing = None if any(measure in CHECKS for measure in comparison.answers) else "no task was given"
    return next((reason for reason in reasons if reason), nothing)


def reasons_checks_not_run(comparison: Comparison, metrics: Metrics) -> dict[str, str]:
    """Return the measures of checks that were not run, with the reason."""
    answers = metrics[comparison.after].get("answers", {})
    return {measure: figures["not_run"] for measure, figures in answers.items() if "not_run" in figures}


def reason_human_eval_not_run(comparison: Comparison, metrics: Metrics) -> str | None:
    """Return the reason why HumanEval was requested but not run; None otherwise."""
    human_evals = [metrics[name].get("human_eval", {}) for name in (comparison.before, comparison.after)]
    return next((scores[PASS]["not_run"] for scores in human_evals if "not_run" in scores.get(PASS, {})), None)


def sandbox_level(comparison: Comparison, metrics: Metrics) -> int | None:
    """Return the isolation level at which programs were run, to be shown with their score; None if none was run."""
    if not comparison.answers:
        return None
    level: int | None = metrics[comparison.after].get("settings", {}).get("sandbox")
    return level


def untrusted_passes(comparison: Comparison) -> str | None:
    """Return a sentence that counts each model's passes by tests with which the program could have tampered; None if there are none."""
    counts = [
        sum(pair[side].inside and pair[side].value == 1 for pairs in comparison.answers.values() for pair in pairs)
        for side in (0, 1)
    ]
    if not any(counts):
        return None
    names = comparison.before, comparison.after
    counted = " and ".join(f"{count:,} of {name}" for name, count in zip(names, counts, strict=True))
    return f"Passes by tests that were compared beside the program, which could have spoilt them: {counted}."


def left_out_caveat(metrics: Metrics) -> str:
    """Return a sentence that counts and names the items that people found wrong; empty if there are none."""
    items = sorted({item for figures in metrics.values() for item in figures.get("left_out", {}).get("items", {})})
    if not items:
        return ""
    more = f" and {len(items) - NAMED:,} more" if len(items) > NAMED else ""
    counted = "1 item is" if len(items) == 1 else f"{len(items):,} items are"
    return f"{counted} left out of all figures, since people found them wrong (data/review_items.jsonl): {', '.join(items[:NAMED])}{more}."


def compression_caveat(models: Mapping[str, Model], grid: str | None) -> str:
    """Return a caveat about compressed models if the base's weights were dequantised from a coarse grid; else an empty text."""
    compressed = [name for name, model in models.items() if model.group == "compressed"]
    if not grid or not compressed:
        return ""
    return (
        f"The base was dequantised from {grid}: what compression costs here ({', '.join(compressed)}) does not hold for weights "
        "that were never quantised so coarsely."
    )
