"""Write the report for programs: one JSON record, and the tables behind the charts."""

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from tasks.core.records import PASS, metric_of
from tasks.stages.report.data.availability import (
    reason_not_run,
    reasons_checks_not_run,
    sandbox_level,
    untrusted_passes,
)
from tasks.stages.report.data.comparison import LOSSES, Comparison, Row
from tasks.stages.report.data.forgetting import LossChange, loss_changes
from tasks.stages.report.data.loop import BINS, Loop, count_origins, levels_of, quality_histogram, shown_set
from tasks.stages.report.data.report_data import ReportData
from tasks.stages.report.data.verdict import Verdict

SIZES = ("parameters", "trainable", "bytes")


def summary_record(data: ReportData) -> dict[str, Any]:
    """Return the contents of summary.json."""
    pairs = zip(data.comparisons, data.verdicts, strict=True)
    return {
        "reference": data.comparisons[0].before,
        "models": {name: {key: values.get(key) for key in SIZES} for name, values in data.metrics.items()},
        "comparisons": {comparison.after: _comparison(comparison, verdict, data) for comparison, verdict in pairs},
        "aspects": {aspect.name: [row.measure for row in aspect.rows] for aspect in data.judged},
        "origins": data.origins,
        **({"loop": _loop_record(data.loop)} if data.loop else {}),
        "settings": {
            "general_margin": data.margin,
            "confidence": data.bootstrap.confidence,
            "resamples": data.bootstrap.resamples,
            "seed": data.bootstrap.seed,
        },
    }


def metrics_record(data: ReportData) -> dict[str, dict[str, float]]:
    """Return the contents of metrics.json, which DVC shows as columns: for each model, levels and their changes against the reference."""
    metrics: dict[str, dict[str, float]] = {}
    for comparison in data.comparisons:
        for row in (row for row in comparison.rows if row.part in ("", "all") and row.unit != "bits/byte"):
            name = metric_of(row.measure)
            of_sides = (
                (comparison.before, name, row.before),
                (comparison.after, name, row.after),
                (comparison.after, f"{name}_change", row.difference),
            )
            for model, metric, estimate in of_sides:
                if (value := estimate.record()["value"]) is not None:
                    metrics.setdefault(model, {})[metric] = value
    return metrics


def plot_tables(data: ReportData) -> dict[str, Iterable[Sequence[Any]]]:
    """Return header and rows of each table, by its name. DVC plots the tables."""
    courses, comparisons = data.courses.items(), data.comparisons
    passes = (line for comparison in comparisons for line in _pass_lines(comparison))
    return {
        "loss": [
            ("model", "step", "tokens", "loss"),
            *((name, *point) for name, course in courses for point in course.get("loss", [])),
        ],
        "validation": [
            ("model", "set", "tokens", "loss"),
            *(
                (name, measured, *point)
                for name, course in courses
                for measured, points in course.get("measured", {}).items()
                for point in points
            ),
        ],
        "forgetting": [
            ("model", *LossChange._fields),
            *((name, *point) for name, course in courses for point in loss_changes(course)),
        ],
        "differences": [
            ("model", "measure", "part", "unit", "value", "low", "high"),
            *(_difference(comparison, row) for comparison in comparisons for row in comparison.rows),
        ],
        "passes": [
            ("model", "part", "value", "low", "high", "items"),
            *dict.fromkeys(passes),  # the reference is in every comparison
        ],
        **_loop_plots(data.loop),
    }


def _loop_record(loop: Loop) -> dict[str, Any]:
    turns = {
        name: {"prev": turn.prev, "outcome": turn.outcome, "diagnosis": turn.diagnosis, "refinement": turn.refinement}
        for name, turn in loop.turns.items()
    }
    steps = [{"models": [step.before, step.after], **_row(step.row)} for step in loop.steps]
    return {"selection": loop.selection, "steps": steps, "mix": count_origins(loop), "turns": turns}


def _loop_plots(loop: Loop | None) -> dict[str, Iterable[Sequence[Any]]]:
    turns, steps = (loop.turns.items(), loop.steps) if loop else ((), ())
    signals = ("loss_before", "loss_after", "neighbour_similarity", "quality")
    return {
        "signals": [
            ("turn", "example", "set", "chosen", *signals),
            *(
                (name, row.example, shown_set(row), ", ".join(row.chosen), *(getattr(row, s) for s in signals))
                for name, turn in turns
                for row in turn.signals
            ),
        ],
        "quality": [
            ("turn", "quality", "examples"),
            *(
                (name, 10 * at / BINS, count)
                for name, turn in turns
                for at, count in enumerate(
                    quality_histogram([q.quality for q in turn.signals if q.quality is not None])
                )
            ),
        ],
        "rounds": [
            ("model", "measure", "value", "low", "high", "items"),
            *(
                (name, steps[0].row.title, *list(level.record().values())[:3], steps[0].row.items)
                for name, level in levels_of(steps)
            ),
        ],
        "mix": [
            ("round", "origin", "examples"),
            *(
                (name, origin, number)
                for name, counts in (count_origins(loop) if loop else {}).items()
                for origin, number in counts.items()
            ),
        ],
    }


def metric_name(row: Row) -> str:
    """Return the name of a row's difference as an MLflow metric, with only letters, digits and underscores."""
    unit = row.unit.replace("/", "_per_") if row.measure in LOSSES else ""
    measure, part = (re.sub(r"\W+", "_", text.replace("@", "_at_")).strip("_") for text in (row.measure, row.part))
    return "_".join(filter(None, (measure, part, unit, "difference")))


def _comparison(comparison: Comparison, verdict: Verdict, data: ReportData) -> dict[str, Any]:
    return {
        "here": verdict.here,
        "elsewhere": verdict.elsewhere,
        "verdict": verdict.sentence,
        "rows": [_row(row) for row in comparison.rows],
        "checks not run": reasons_checks_not_run(comparison, data.metrics),
        "pass@1 not run": reason_not_run(comparison, data.metrics),
        "sandbox": sandbox_level(comparison, data.metrics),
        "inside": untrusted_passes(comparison),
    }


def _row(row: Row) -> dict[str, Any]:
    estimates = {"before": row.before, "after": row.after, "difference": row.difference}
    labels = {"measure": row.measure, "part": row.part, "unit": row.unit, "items": row.items}
    p = {} if row.p is None else {f"{row.test}_p": round(row.p, 6)}
    return labels | {side: estimate.record() for side, estimate in estimates.items()} | p


def _difference(comparison: Comparison, row: Row) -> tuple[Any, ...]:
    difference = row.difference.record()
    bounds = difference["low"], difference["high"]
    return (comparison.after, row.measure, row.part, row.unit, difference["value"], *bounds)


def _pass_lines(comparison: Comparison) -> Iterator[tuple[Any, ...]]:
    """Yield a line for each tier and model."""
    for row in comparison.rows:
        if row.measure == PASS:
            for model, estimate in ((comparison.before, row.before), (comparison.after, row.after)):
                record = estimate.record()
                yield model, row.part, record["value"], record["low"], record["high"], row.items
