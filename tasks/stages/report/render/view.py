"""Arrange the data of a report for the templates of the page and the model card."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tasks.core.records import PASS
from tasks.core.statistics import Estimate
from tasks.core.training import in_words
from tasks.stages.report import number_format
from tasks.stages.report.data import answers, availability, contamination, first_batch, settings
from tasks.stages.report.data.comparison import LOSSES, NATS, Comparison, Row
from tasks.stages.report.data.forgetting import loss_changes
from tasks.stages.report.data.loop import AS_READ, ORIGINS, Loop, choose_proposals, count_origins
from tasks.stages.report.data.report_data import ReportData
from tasks.stages.report.data.verdict import Verdict, count_changes
from tasks.stages.report.render import charts, loop_charts, summary_text
from tasks.stages.report.render.charts import Curve, Effect, Forgetting, Size
from tasks.stages.report.render.grammar import Chart
from tasks.stages.report.render.legend import legend

SHOWN_ROWS = 12
"""Most rows of a table of counts; the rest becomes one row."""
LOWER, HIGHER = ("better", "worse"), ("worse", "better")
"""The words at the ends of a chart of differences, for measures where lower is better, and where higher is better."""
TONES = {"better": "good", "no worse": "good", "worse": "bad", "not decided": "open"}
STEPS = ("learning_rate", "gradient_norm")
"""The quantities, besides the loss, that `training.json` holds for each step."""
SAME_LENGTH = 1.05
"""Largest ratio between the numbers of tokens of trainings that count as equally long."""
UNITS = {"tokens_per_second": "tokens/s"}


def template_variables(data: ReportData) -> dict[str, Any]:
    """Return the variables of both templates."""
    traces = {name: loss_changes(course) for name, course in data.courses.items()}
    settings_table = settings.table(data.settings)
    return {
        "report": data,
        "sections": [_section(data, index) for index in range(len(data.comparisons))],
        "lead": data.lead,
        "head": _head_charts(data),
        "worse_anywhere": count_changes(data.comparisons[data.lead]),
        "curves": _curve_charts(data),
        "sizes": _size_chart(data),
        "settings": settings_table,
        "differing": settings.differing(settings_table),
        "plan": settings.plan(data.settings.get(data.leading, {})),
        "batches": {name: batch for name, course in data.courses.items() if (batch := first_batch.read(course))},
        "traces": traces,
        "paths": charts.forgetting_paths(traces, data.margin, "Changes of domain and general loss")
        if any(traces.values())
        else None,
        "ends": None if any(traces.values()) else _ends_chart(data),
        "compositions": {
            name: in_words(course.get("composition", {}).values()) for name, course in data.courses.items()
        },
        "lengths": {
            name: largest_sources(course["sources"]) for name, course in data.courses.items() if course.get("sources")
        },
        "faults": {name: faults for name, faults in data.faults.items() if faults.pairs or faults.refused},
        "history": _history(data.loop, data.courses) if data.loop else None,
        "base": base_in_words(data.base),
        "license": data.base.get("source", {}).get("license") or "unknown",
        "ingested": data.ingested,
        "contamination": contamination.sentence(data.ingested),
        "samples": data.ingested.get("samples", ()),
        "domains": largest_domains(data.ingested["domains"]),
        "counts": {
            "Examples by licence": data.ingested["licenses"],
            "Texts by corpus and split": {name: row["documents"] for name, row in data.ingested["corpora"].items()},
            "Texts by licence": data.ingested["corpus_licenses"],
            "Records refused or merged, by reason": data.ingested["dropped"],
        },
        "deciding_loss": LOSSES[loss.measure] if (loss := data.comparisons[data.lead].deciding_loss) else "domain loss",
        "legend": legend(data.comparisons, data.bootstrap),
    }


def _history(loop: Loop, courses: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return the turns with their charts."""
    tokens = [courses.get(step.after, {}).get("tokens", 0) for step in loop.steps]
    equally_long = bool(tokens) and max(tokens) <= SAME_LENGTH * min(tokens)
    mix = count_origins(loop)
    kinds = [kind for kind in (AS_READ, *ORIGINS.values()) if any(kind in counts for counts in mix.values())]
    return {
        "selection": loop.selection,
        "steps": [
            loop_charts.round_chart(steps, equally_long=equally_long) for steps in (loop.steps, loop.losses) if steps
        ],
        "equally_long": equally_long,
        "setbacks": [summary_text.setback(step) for step in loop.setbacks],
        "of_tasks": any(turn.kinds for turn in loop.turns.values()),
        "mix": loop_charts.origin_chart(mix, kinds),
        "turns": [
            {
                "name": name,
                "turn": turn,
                "losses": loop_charts.loss_map(turn),
                "neighbours": loop_charts.neighbour_map(turn),
                "qualities": loop_charts.quality_chart(turn),
                "proposals": choose_proposals(turn),
            }
            for name, turn in loop.turns.items()
        ],
    }


def _section(data: ReportData, index: int) -> dict[str, Any]:
    """Return the section that compares one model with the reference."""
    comparison, verdict = data.comparisons[index], data.verdicts[index]
    passes = [row for row in comparison.rows if row.measure == PASS]
    losses = _loss_effects(comparison, verdict, data.margin)
    known = [pair for pair in comparison.written if pair[0].item in data.examples]
    return {
        "comparison": comparison,
        "verdict": verdict,
        "tone": _verdict_tone(verdict),
        "rows": comparison.rows,
        "losses": charts.forest_plot(losses, "Differences of losses", LOWER) if losses else None,
        "changes": count_changes(comparison),
        "gains": charts.forest_plot(_pass_effects(passes, verdict, data.margin), "Differences of pass@1", HIGHER)
        if passes
        else None,
        "bars": charts.bar_chart(_bars(comparison, passes), "pass@1 by length of the solution") if passes else None,
        "not_run": availability.reason_not_run(comparison, data.metrics),
        "human_eval_not_run": availability.reason_human_eval_not_run(comparison, data.metrics),
        "sandbox": availability.sandbox_level(comparison, data.metrics),
        "inside": availability.untrusted_passes(comparison),
        "outcomes": {kind: answers.count_outcomes(pairs) for kind, pairs in comparison.answers.items()},
        "checks_not_run": availability.reasons_checks_not_run(comparison, data.metrics),
        "kinds": answers.count_kinds(comparison.written),
        "answers": [
            {
                "kind": answers.kind(pair),
                "example": data.examples[pair[0].item],
                "sides": list(zip((comparison.before, comparison.after), pair, strict=True)),
            }
            for pair in answers.choose_answers(known, data.answers)
        ],
    }


def _verdict_tone(verdict: Verdict) -> str:
    if (verdict.here, verdict.elsewhere) == ("better", "no worse"):
        return "good"
    return "bad" if "worse" in (verdict.here, verdict.elsewhere) else "open"


def _loss_effects(comparison: Comparison, verdict: Verdict, margin: float) -> list[Effect]:
    return [
        _effect(LOSSES[row.measure], row, verdict, margin)
        for row in comparison.rows
        if row.unit == NATS and not row.part
    ]


def _pass_effects(passes: Sequence[Row], verdict: Verdict, margin: float) -> list[Effect]:
    return [_effect(row.part, row, verdict, margin) for row in passes]


def _tone(low: float, high: float) -> str:
    """Return the tone of a difference that is good below zero."""
    if high < 0:
        return "good"
    return "bad" if low > 0 else "open"


def _bars(comparison: Comparison, passes: Sequence[Row]) -> list[tuple[str, dict[str, Estimate]]]:
    return [(row.part, {comparison.before: row.before, comparison.after: row.after}) for row in passes]


def _head_charts(data: ReportData) -> list[Chart]:
    """Return the charts of the verdict: one for the change of each decisive measure, with a row for each model."""
    decisive = [
        ("Change of the {}", LOWER, [comparison.deciding_loss for comparison in data.comparisons]),
        ("Change of the {}", LOWER, [comparison.row("general") for comparison in data.comparisons]),
        ("Change of {}", HIGHER, [comparison.accuracy for comparison in data.comparisons]),
    ]
    charted = []
    for title, ends, rows in decisive:
        effects = [
            _effect(comparison.after, row, verdict, data.margin)
            for comparison, verdict, row in zip(data.comparisons, data.verdicts, rows, strict=True)
            if row
        ]
        if effects:
            measure = next(row for row in rows if row)
            charted.append(charts.forest_plot(effects, title.format(measure.title), ends))
    return charted


def _effect(label: str, row: Row, verdict: Verdict, margin: float) -> Effect:
    """Return the row of a forest plot."""
    if row.measure == "general":
        return Effect(label, row.difference, row.unit, TONES[verdict.elsewhere], margin)
    sign = -1 if row.unit == number_format.PER_CENT else 1
    low, high = sorted((sign * row.difference.low, sign * row.difference.high))
    return Effect(label, row.difference, row.unit, _tone(low, high))


def _curve_charts(data: ReportData) -> list[tuple[str, Chart]]:
    """Return, for each recorded quantity of the trainings, a heading and a chart."""
    losses = [
        Curve(name, _finite(point[1:] for point in course.get("loss", [])), _finite(_validation(course)))
        for name, course in data.courses.items()
    ]
    charted = [("Loss", charts.curves(losses, "Loss over trained tokens", "nats per token"))] if losses else []
    kept = {
        quantity: {name: course[quantity] for name, course in data.courses.items() if course.get(quantity)}
        for quantity in STEPS
    }
    for quantity, points in {**kept, **data.surroundings.telemetry}.items():
        if points:
            lines = [Curve(name, _finite(points.get(name, ()))) for name in data.courses]
            words = quantity.replace("_", " ").capitalize()
            charted.append((words, charts.curves(lines, f"{words} over trained tokens", UNITS.get(quantity, ""))))
    return charted


def _ends_chart(data: ReportData) -> Chart | None:
    """Return a chart of the changes of both losses of every model against the reference; None if no model has both."""
    rows = [(one.after, one.deciding_loss, one.row("general")) for one in data.comparisons]
    ends = [
        Forgetting(name, domain.difference, general.difference)
        for name, domain, general in rows
        if domain and general and math.isfinite(domain.difference.value + general.difference.value)
    ]
    loss = next((domain for _, domain, _ in rows if domain), None)
    if not ends or loss is None:
        return None
    return charts.forgetting_ends(ends, data.margin, "Changes of domain and general loss", LOSSES[loss.measure])


def _size_chart(data: ReportData) -> Chart | None:
    """Return a chart of the losses of all models over their sizes; None if all have the same size, or none has a loss."""
    rows = [comparison.deciding_loss for comparison in data.comparisons]
    losses = {data.comparisons[0].before: rows[0].before} if rows[0] else {}
    losses |= {one.after: row.after for one, row in zip(data.comparisons, rows, strict=True) if row}
    sizes = [
        Size(name, size / 2**20, loss)
        for name, loss in losses.items()
        if (size := data.metrics[name].get("bytes")) is not None and math.isfinite(loss.value)
    ]
    if len({size.mebibytes for size in sizes}) < 2:
        return None
    return charts.size_chart(sizes, "Loss of each model over its size", LOSSES[next(filter(None, rows)).measure])


def _validation(course: Mapping[str, Any]) -> Sequence[tuple[float, float]]:
    """Return the validation losses on data of the trained kind: examples, or the domain's texts."""
    measured = course.get("measured", {})
    return next((measured[name] for name in ("validation", "domain") if name in measured), ())


def _finite(points: Iterable[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return the points (tokens, loss) whose loss is finite."""
    return [(tokens, loss) for tokens, loss in points if math.isfinite(loss)]


def base_in_words(base: Mapping[str, Any]) -> str:
    """Return the origin of the base model in words."""
    source = base.get("source", {})
    match source.get("from"):
        case "hub":
            return f"{source['id']} at revision {source['revision']}"
        case "package":
            return f"the model of the Python package {source['name']} {source.get('version', '')}".rstrip()
        case "config":
            return "a small model of random weights, which has learned nothing before"
        case _:
            return "a model of the user's own"


def largest_domains(domains: Mapping[str, Mapping[str, int]]) -> list[tuple[str, Mapping[str, int]]]:
    """Return the domains with the most examples, followed by the sum of the others."""
    ordered = sorted(domains.items(), key=lambda entry: (-entry[1]["examples"], entry[0]))
    if len(ordered) <= SHOWN_ROWS + 1:
        return ordered
    rest = [row for _, row in ordered[SHOWN_ROWS:]]
    return [*ordered[:SHOWN_ROWS], (f"{len(rest)} others", {key: sum(row[key] for row in rest) for key in rest[0]})]


def largest_sources(sources: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, Mapping[str, Any]]]:
    """Return the figures of the sources with the most tokens, and of all others together, without percentiles.

    Each row also gets `cut`, the share of its sequences that are too long for a pack.
    """
    ordered = sorted(sources.items(), key=lambda entry: (-entry[1]["tokens"], entry[0]))
    if len(ordered) > SHOWN_ROWS + 1:
        rest = [row for _, row in ordered[SHOWN_ROWS:]]
        totals = {key: sum(row[key] for row in rest) for key in ("sequences", "tokens", "too_long")}
        lengths = {
            "mean": totals["tokens"] / max(totals["sequences"], 1),
            "longest": max(row["longest"] for row in rest),
        }
        together = {**totals, **lengths, "p50": None, "p90": None, "p99": None}
        ordered = [*ordered[:SHOWN_ROWS], (f"{len(rest)} others", together)]
    return [
        (name, {**row, "cut": row["too_long"] / max(row["sequences"] + row["too_long"], 1)}) for name, row in ordered
    ]
