"""Write the report as plain text: aligned tables and verdicts, in lines of at most `WIDTH` characters."""

import re
import textwrap
from collections.abc import Iterator, Sequence

from tasks.core.records import EDITS, PASS, PREFERENCE
from tasks.core.text.visible import escaped
from tasks.stages.report import number_format
from tasks.stages.report.data.availability import (
    Metrics,
    reason_human_eval_not_run,
    reason_not_run,
    reasons_checks_not_run,
    sandbox_level,
    untrusted_passes,
)
from tasks.stages.report.data.comparison import CHECKS, HUMAN_EVAL, NATS, SCORE, Comparison, Row
from tasks.stages.report.data.loop import Loop, Step
from tasks.stages.report.data.report_data import ReportData
from tasks.stages.report.render.legend import legend

WIDTH = 100
COLUMNS = (21, 6, 21, 21, 23)
"""Widths of the columns measure, items, both models and difference; two blanks separate them."""
LABELS = {"domain": "domain", "domain_text": "domain text", "general": "general text"}

Line = tuple[str, str, str, str, str]


def summary_text(data: ReportData) -> str:
    """Return the report as text: gains of turns, comparisons with verdicts, turns, aspects, origins, and the legend."""
    steps = ["\n".join(_steps(data.loop.steps))] if data.loop and data.loop.steps else []
    blocks = steps + [
        "\n".join([*_table(comparison, data.metrics), "", _wrap(f"Verdict: {verdict.sentence}")])
        for comparison, verdict in zip(data.comparisons, data.verdicts, strict=True)
    ]
    turns = ["\n".join(map(_wrap, _turns(data.loop)))] if data.loop else []
    last = _wrap(" ".join(filter(None, [data.caveat, legend(data.comparisons, data.bootstrap)])))
    return "\n\n\n".join([*blocks, *turns, "\n".join(_judged(data)), last]) + "\n"


def _judged(data: ReportData) -> Iterator[str]:
    """Yield the measures of each aspect of the leading model, and the origins of the examples of each round."""
    for aspect in data.judged:
        yield _wrap(f"{aspect.name.capitalize()}: {aspect.sentence}")
    for name, counts in data.origins.items():
        told = ", ".join(f"{number:,} {origin}" for origin, number in counts.items())
        of_which = f"of {name}" if data.loop else name  # `as read`
        yield _wrap(f"Origins of the examples {of_which}: {told}.")


def _steps(steps: Sequence[Step]) -> Iterator[str]:
    """Yield a table with a line for each round compared with the one before it."""
    yield _line(("turn by turn", "items", "before", "after", "difference"))
    first = steps[0].row
    yield f"{first.title}, {'per cent' if first.unit == number_format.PER_CENT else 'nats per token'}"
    yield from (_line(_cells(step.row, f"{_cut(step.before, 8)} → {_cut(step.after, 8)}")) for step in steps)


def _turns(loop: Loop) -> Iterator[str]:
    for name, turn in loop.turns.items():
        yield f"Round {name}, from {turn.prev}: {turn.outcome}"
    yield from map(setback, loop.setbacks)
    yield f"Best round: {loop.selection['round']}, {loop.selection['why']}."


def setback(step: Step) -> str:
    """Return a sentence about a turn that made a worse model."""
    unit = "points" if step.row.unit == number_format.PER_CENT else "nats per token"
    return f"{step.after} is worse than {step.before}: {step.row.title} {number_format.change(step.row.difference, step.row.unit)} {unit}."


def _table(comparison: Comparison, metrics: Metrics) -> Iterator[str]:
    before, after = comparison.before, comparison.after
    yield _line(("", "items", before, after, f"{_cut(after, 11)} − {_cut(before, 9)}"))
    yield "loss, nats per token"
    losses = [row for row in comparison.rows if row.unit == NATS]
    yield from (_line(_cells(row, f"  {row.part}" if row.part else LABELS[row.measure])) for row in losses)
    reason, level = reason_not_run(comparison, metrics), sandbox_level(comparison, metrics)
    if reason or comparison.tasks:
        yield "pass@1, per cent" + (f" (programs run in a sandbox of level {level})" if level else "")
    if reason:
        yield from _not_run(reason)
    yield from (_line(_cells(row, row.part)) for row in comparison.rows if row.measure == PASS)
    yield from (_line(_cells(row, row.measure)) for row in comparison.rows if row.measure.startswith("sampled"))
    if reason := reason_human_eval_not_run(comparison, metrics):
        yield from ("HumanEval, per cent", *_not_run(reason))
    yield from _block("HumanEval, per cent", [row for row in comparison.rows if row.measure.startswith(HUMAN_EVAL)])
    yield from _checks(comparison, metrics)
    yield from _by_domain("preferences, per cent", [row for row in comparison.rows if row.measure == PREFERENCE])
    yield from _by_domain("facts written in, per cent", [row for row in comparison.rows if row.measure in EDITS])
    if passes := untrusted_passes(comparison):
        yield from textwrap.wrap(passes, WIDTH)
    yield from _block("standard benchmarks", [row for row in comparison.rows if row.unit == SCORE])
    first, second = metrics[before], metrics[after]
    counts = [number_format.count(side.get("trainable")) for side in (first, second)]
    sizes = [number_format.mebibytes(side.get("bytes")) for side in (first, second)]
    yield _line(("trainable parameters", "", counts[0], counts[1], ""))
    yield _line(("weights on disk, MiB", "", sizes[0], sizes[1], ""))


def _checks(comparison: Comparison, metrics: Metrics) -> Iterator[str]:
    """Yield the measures of answers that a check graded, and those that were not run."""
    rows = [row for row in comparison.rows if row.measure in CHECKS and row.measure not in (PREFERENCE, *EDITS)]
    not_run = reasons_checks_not_run(comparison, metrics)
    heading = "checked answers, per cent"
    yield from _by_domain(heading, rows) if rows or not not_run else [heading]
    for measure, reason in not_run.items():
        yield from _not_run(f"{measure}: {reason}")


def _by_domain(heading: str, rows: Sequence[Row]) -> Iterator[str]:
    """Yield rows under their heading, each measure with its domains below it; nothing if there are no rows."""
    if rows:
        yield heading
        yield from (_line(_cells(row, f"  {row.part}" if row.part else row.measure)) for row in rows)


def _not_run(reason: str) -> list[str]:
    return textwrap.wrap(f"not run: {reason}", WIDTH, initial_indent="  ", subsequent_indent="  ")


def _block(heading: str, rows: Sequence[Row]) -> Iterator[str]:
    """Yield rows under their heading; nothing if there are no rows."""
    if rows:
        yield heading
        for row in rows:
            label = " · ".join(filter(None, (row.measure.removeprefix(HUMAN_EVAL), row.part)))
            yield _line(_cells(row, label))


def _cells(row: Row, label: str) -> Line:
    before, after = number_format.level(row.before, row.unit), number_format.level(row.after, row.unit)
    label = escaped(re.sub(r"\s", " ", label))  # the task's name may come from a column of the data
    return (f"  {label}", f"{row.items:,}", before, after, number_format.change(row.difference, row.unit))


def _line(cells: Line) -> str:
    """Return the aligned cells. A label that is longer than its column gets its own line before them; names of models are cut."""
    if len(cells[0]) > COLUMNS[0]:
        return f"{_cut(cells[0], WIDTH)}\n{_line(('', *cells[1:]))}"
    aligned = zip((str.ljust, str.rjust, str.ljust, str.ljust, str.ljust), cells, COLUMNS, strict=True)
    return "  ".join(align(_cut(cell, width), width) for align, cell, width in aligned).rstrip()


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"


def _wrap(text: str) -> str:
    return textwrap.fill(text, WIDTH, break_on_hyphens=False)
