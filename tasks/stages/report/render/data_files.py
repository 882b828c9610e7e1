"""The comparison for programs: one JSON record, and the tables behind the charts."""

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from tasks.stages.report import loop, maps, tabulate
from tasks.stages.report.compare import LOSSES, PASS, Comparison, Row
from tasks.stages.report.judge import Verdict
from tasks.stages.report.loop import Loop
from tasks.stages.report.render import Facts
from tasks.stages.report.trace import Point, trace

SIZES = ("parameters", "trainable", "bytes")


def summary(facts: Facts) -> dict[str, Any]:
    """What summary.txt says."""
    pairs = zip(facts.comparisons, facts.verdicts, strict=True)
    return {
        "reference": facts.comparisons[0].before,
        "models": {name: {key: values[key] for key in SIZES} for name, values in facts.metrics.items()},
        "comparisons": {comparison.after: _comparison(comparison, verdict, facts) for comparison, verdict in pairs},
        **({"loop": _loop(facts.loop)} if facts.loop else {}),
        "settings": {
            "general_margin": facts.margin,
            "confidence": facts.how.confidence,
            "resamples": facts.how.resamples,
            "seed": facts.how.seed,
        },
    }


def plots(facts: Facts) -> dict[str, Iterable[Sequence[Any]]]:
    """Name of a table → its header and rows. DVC draws them."""
    courses, comparisons = facts.courses.items(), facts.comparisons
    passes = (line for comparison in comparisons for line in _passes(comparison))
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
            ("model", *Point._fields),
            *((name, *point) for name, course in courses for point in trace(course)),
        ],
        "differences": [
            ("model", "measure", "part", "unit", "value", "low", "high"),
            *(_difference(comparison, row) for comparison in comparisons for row in comparison.rows),
        ],
        "passes": [
            ("model", "part", "value", "low", "high", "items"),
            *dict.fromkeys(passes),  # the reference stands in every comparison
        ],
        **_loop_plots(facts.loop),
    }


def _loop(found: Loop) -> dict[str, Any]:
    turns = {
        name: {"prev": turn.prev, "outcome": turn.outcome, "diagnosis": turn.diagnosis, "refinement": turn.refinement}
        for name, turn in found.turns.items()
    }
    return {"selection": found.selection, "mix": loop.mix(found), "turns": turns}


def _loop_plots(found: Loop | None) -> dict[str, Iterable[Sequence[Any]]]:
    turns = found.turns.items() if found else ()
    signals = ("loss_before", "loss_after", "neighbour_similarity", "quality")
    return {
        "signals": [
            ("turn", "example", "set", "chosen", *signals),
            *(
                (name, row.example, loop.belongs(row), ", ".join(row.chosen), *(getattr(row, s) for s in signals))
                for name, turn in turns
                for row in turn.signals
            ),
        ],
        "quality": [
            ("turn", "quality", "examples"),
            *(
                (name, 10 * at / maps.BINS, count)
                for name, turn in turns
                for at, count in enumerate(maps.histogram([q.quality for q in turn.signals if q.quality is not None]))
            ),
        ],
        "mix": [
            ("round", "origin", "examples"),
            *(
                (name, kind, n)
                for name, parts in (loop.mix(found) if found else {}).items()
                for kind, n in parts.items()
            ),
        ],
    }


def name(row: Row) -> str:
    """What a row's difference is called where only letters, digits and underscores may stand."""
    unit = row.unit.replace("/", "_per_") if row.measure in LOSSES else ""
    measure = re.sub(r"\W+", "_", row.measure.replace("@", "_at_")).strip("_")
    return "_".join(filter(None, (measure, row.part, unit, "difference")))


def _comparison(comparison: Comparison, verdict: Verdict, facts: Facts) -> dict[str, Any]:
    return {
        "here": verdict.here,
        "elsewhere": verdict.elsewhere,
        "verdict": verdict.sentence,
        "rows": [_row(row) for row in comparison.rows],
        "pass@1 not run": tabulate.not_run(comparison, facts.metrics),
        "sandbox": tabulate.sandbox(comparison, facts.metrics),
        "inside": tabulate.inside(comparison),
    }


def _row(row: Row) -> dict[str, Any]:
    estimates = {"before": row.before, "after": row.after, "difference": row.difference}
    what = {"measure": row.measure, "part": row.part, "unit": row.unit, "items": row.items}
    p = {} if row.p is None else {"mcnemar_p": round(row.p, 6)}
    return what | {side: estimate.record() for side, estimate in estimates.items()} | p


def _difference(comparison: Comparison, row: Row) -> tuple[Any, ...]:
    found = row.difference.record()
    return (comparison.after, row.measure, row.part, row.unit, found["value"], found["low"], found["high"])


def _passes(comparison: Comparison) -> Iterator[tuple[Any, ...]]:
    """A line for each tier and model."""
    for row in comparison.rows:
        if row.measure == PASS:
            for model, estimate in ((comparison.before, row.before), (comparison.after, row.after)):
                found = estimate.record()
                yield model, row.part, found["value"], found["low"], found["high"], row.items
