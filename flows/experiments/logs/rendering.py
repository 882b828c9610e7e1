"""Render a comparison of logs: lines for a terminal, and one JSON record. Texts of a log are shown with control characters escaped."""

import math
import textwrap
from collections.abc import Iterator, Sequence
from typing import Any

from flows.experiments.logs.comparison import ALPHA, CHANCE, MCNEMAR, Comparison, Report
from flows.experiments.logs.pairing import Pair
from flows.experiments.logs.records import Log
from tasks.core import paired
from tasks.core.statistics import Estimate
from tasks.core.text.visible import visible

SHOWN_CHARS = 60
WIDTH = 120
"""Largest number of characters of a line in the legend."""
HEAD = ("measure", "items", "", "", "difference", "+", "=", "−", "p", "p, Holm", "", "to decide", "decides")
"""Columns 2 and 3 are named after the logs; `+`, `=` and `−` count items that score higher, the same and lower."""


def text(report: Report) -> str:
    """Return the tables of all pairs of logs, with warnings below each, and the legend."""
    blocks = ["\n".join(_log_lines(report))]
    for first, other in dict.fromkeys((one.pair.first, one.pair.other) for one in report.comparisons):
        comparisons = [one for one in report.comparisons if (one.pair.first, one.pair.other) == (first, other)]
        rows = [_head(first, other), *(_row(one, several_tasks(comparisons)) for one in comparisons)]
        lines = [f"{shown(other)} − {shown(first)}", *_aligned(rows), *(f"! {line}" for line in warnings(comparisons))]
        blocks.append("\n".join(lines))
    blocks += ["\n".join(f"! {shown(line, 300)}" for line in report.remarks)] if report.remarks else []
    return "\n\n".join([*blocks, textwrap.fill(legend(report), WIDTH)])


def record(report: Report) -> dict[str, Any]:
    """Return the comparison for JSON."""
    return {
        "logs": [_log_record(name, log) for name, log in zip(report.names, report.logs, strict=True)],
        "group": report.group,
        "alpha": ALPHA,
        "comparisons": [_comparison_record(one) for one in report.comparisons],
        "remarks": list(report.remarks),
    }


def legend(report: Report) -> str:
    """Return the explanation of the figures."""
    unit = f"groups of items by `{report.group}`" if report.group else "items"
    number = len(report.comparisons)
    tests = sorted({one.test for one in report.comparisons})
    flips = (
        f"exact up to {paired.EXACT} {'groups' if report.group else 'items'} that differ, else {paired.DRAWS:,} draws"
    )
    explained = " and ".join(f"{test}{f' ({flips})' if test != MCNEMAR else ''}" for test in tests)
    return (
        f"Brackets: 95 % intervals over {unit}. Differences are paired by item. p: {explained}. "
        f"p, Holm: corrected for {number} comparison{'s' if number > 1 else ''}; higher or lower where it is below {ALPHA:g}. "
        f"To decide: items that decide the observed difference, if it is the true one, with a chance of {100 * CHANCE:g} % at "
        f"{ALPHA:g}{f' / {number}' if number > 1 else ''}. Decides: the difference that as many items as these decide so."
    )


def warnings(comparisons: Sequence[Comparison]) -> list[str]:
    """Return the differences between the logs of a pair, and what their measures lack, each once."""
    lines: dict[str, None] = {}
    for one in comparisons:
        task = f"{one.pair.task}: " if several_tasks(comparisons) else ""
        logs = ((one.pair.first, one.pair.before), (one.pair.other, one.pair.after))
        lines |= dict.fromkeys(f"{task}{name}: {remark}" for name, log in logs for remark in log.remarks)
        lines |= dict.fromkeys(f"{task}{warning}" for warning in one.pair.warnings)
        lines |= dict.fromkeys(f"{task}{one.measure}: {remark}" for remark in one.remarks)
    return [shown(line.rstrip("."), 400) for line in lines]


def several_tasks(comparisons: Sequence[Comparison]) -> bool:
    """Return True if measures need the name of their task."""
    return len({one.pair.task for one in comparisons}) > 1


def title(comparison: Comparison, with_task: bool) -> str:
    """Return the name of a measure, with that of its task before it if there are several."""
    name = f"{comparison.pair.task}/{comparison.measure}" if with_task else comparison.measure
    return shown(name)


def shown(text: str, chars: int = SHOWN_CHARS) -> str:
    """Return a text of a log for one line of a terminal."""
    return visible(text.replace("\n", " "), chars).replace("\n", " ")


def clipped(name: str, chars: int = 32) -> str:
    """Return the name of a log for the head of a column: its beginning and its end, because dates and numbers at the end distinguish logs."""
    name = shown(name, 500)
    return name if len(name) <= chars else f"{name[: chars // 2 - 1]}…{name[-chars // 2 :]}"


def number(value: float, sign: str = "") -> str:
    """Format a figure with three decimals; `sign` is `+` for differences."""
    formatted = f"{value:{sign}.3f}"
    return formatted.replace("-", "−") if float(formatted) else f"{0:.3f}"


def interval(estimate: Estimate, sign: str = "") -> str:
    """Format a figure with its interval."""
    if not (math.isfinite(estimate.low) and math.isfinite(estimate.high)):
        return f"{number(estimate.value, sign)} [no interval]"
    return f"{number(estimate.value, sign)} [{number(estimate.low, sign)}, {number(estimate.high, sign)}]"


def p_value(p: float) -> str:
    """Format a p-value."""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def to_decide(comparison: Comparison) -> str:
    """Format the number of items that would be needed to detect the observed difference."""
    return f"{comparison.power.items:,}" if comparison.power.items is not None else "—"


def detectable(comparison: Comparison) -> str:
    """Format the smallest difference that this many items detect."""
    return f"±{comparison.power.detectable:.3f}" if comparison.power.detectable is not None else "—"


def describe(name: str, log: Log) -> Iterator[tuple[str, str]]:
    """Yield the name of a log and facts about it, once for each of its tasks."""
    for task in log.tasks.values():
        facts = [
            log.harness,
            f"task {task.task}" if task.task else "",
            f"version {task.version}" if task.version else "",
            task.model,
            f"{len(task.items):,} items",
            f"up to {task.epochs} epochs" if task.epochs > 1 else "",
        ]
        yield shown(name), shown(" · ".join(fact for fact in facts if fact), 200)


def _log_lines(report: Report) -> Iterator[str]:
    for name, log in zip(report.names, report.logs, strict=True):
        yield from ("  ".join(described) for described in describe(name, log))


def _head(first: str, other: str) -> list[str]:
    return [*HEAD[:2], clipped(first), clipped(other), *HEAD[4:]]


def _row(one: Comparison, with_task: bool) -> list[str]:
    return [
        title(one, with_task),
        f"{one.items:,}",
        interval(one.before),
        interval(one.after),
        interval(one.difference, "+"),
        f"{one.rose:,}",
        f"{one.items - len(one.changes):,}",
        f"{one.fell:,}",
        p_value(one.p),
        p_value(one.adjusted),
        one.verdict,
        to_decide(one),
        detectable(one),
    ]


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    numeric = {1, 5, 6, 7, 8, 9, 11, 12}
    return [
        "  ".join(
            f"{cell:>{width}}" if place in numeric else f"{cell:<{width}}"
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def _log_record(name: str, log: Log) -> dict[str, Any]:
    tasks = [
        {
            "task": task.task,
            "model": task.model,
            "version": task.version,
            "items": len(task.items),
            "epochs": task.epochs,
            "remarks": list(task.remarks),
        }
        for task in log.tasks.values()
    ]
    return {"name": name, "path": str(log.path), "harness": log.harness, "tasks": tasks}


def _comparison_record(one: Comparison) -> dict[str, Any]:
    pair: Pair = one.pair
    return {
        "first": pair.first,
        "other": pair.other,
        "task": pair.task,
        "measure": one.measure,
        "items": one.items,
        "groups": one.difference.n,
        "first_score": one.before.record(),
        "other_score": one.after.record(),
        "difference": one.difference.record(),
        "higher": one.rose,
        "equal": one.items - len(one.changes),
        "lower": one.fell,
        "test": one.test,
        "p": one.p,
        "p_holm": one.adjusted,
        "verdict": one.verdict,
        "items_to_decide": one.power.items,
        "detectable": one.power.detectable,
        "warnings": [*pair.warnings, *one.remarks],
        "changed_items": [{"item": c.item, "first": c.before, "other": c.after} for c in one.changes],
    }
