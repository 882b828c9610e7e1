"""The comparison as plain text: one aligned table and the verdict, no line longer than a terminal."""

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tasks.core.statistics import Bootstrap
from tasks.stages.report import figures
from tasks.stages.report.compare import HUMAN_EVAL, PASS, SCORE, Comparison, Row
from tasks.stages.report.judge import Verdict
from tasks.stages.report.loop import Loop

WIDTH = 100
COLUMNS = (21, 6, 21, 21, 23)
"""Measure, items, both models, difference; two blanks between them."""
LABELS = {"domain": "domain", "domain_text": "domain text", "general": "general text"}

Line = tuple[str, str, str, str, str]


def summary(
    comparisons: Sequence[Comparison],
    verdicts: Sequence[Verdict],
    metrics: Mapping[str, Mapping[str, Any]],
    how: Bootstrap,
    loop: Loop | None = None,
    caveat: str = "",
) -> str:
    """Every comparison with its verdict, what became of the turns of the loop, and how to read the figures."""
    blocks = [
        "\n".join([*_table(comparison, metrics), "", _wrap(f"Verdict: {verdict.sentence}")])
        for comparison, verdict in zip(comparisons, verdicts, strict=True)
    ]
    turns = ["\n".join(map(_wrap, _turns(loop)))] if loop else []
    last = _wrap(" ".join(filter(None, [caveat, legend(comparisons, how)])))
    return "\n\n\n".join([*blocks, *turns, last]) + "\n"


def _turns(loop: Loop) -> Iterator[str]:
    for name, turn in loop.turns.items():
        yield f"Round {name}, from {turn.prev}: {turn.outcome}"
    yield f"Best round: {loop.selection['round']}, {loop.selection['why']}."


def legend(comparisons: Sequence[Comparison], how: Bootstrap) -> str:
    """How the figures come about, in words; of measures that are not always there, where they are."""
    return " ".join([_always(how), *_sometimes([row for comparison in comparisons for row in comparison.rows])])


def _always(how: Bootstrap) -> str:
    return (
        f"Brackets hold {100 * how.confidence:g} % intervals: of losses and differences by a bootstrap over groups of items "
        f"({how.resamples:,} resamples; a group is a module or a file), of pass@1 exact, for independent tasks. Differences are paired item by item. "
        "Loss: lower is better. pass@1, the share of tasks whose first answer passes its tests: higher is better."
    )


def _sometimes(rows: Sequence[Row]) -> Iterator[str]:
    if any("sampled" in row.measure for row in rows):
        yield (
            "Sampled pass@k: the chance that one of k drawn answers passes, without bias from all that were drawn; "
            "its interval is by the bootstrap."
        )
    if any(row.unit == SCORE for row in rows):
        yield (
            "Standard benchmarks: scores of lm-evaluation-harness as it defines them, with intervals from its standard errors; "
            "their differences are not paired."
        )


def not_run(comparison: Comparison, metrics: Mapping[str, Mapping[str, Any]]) -> str | None:
    """Why there is no pass@1, where there is none."""
    if comparison.tasks:
        return None
    reasons = [metrics[name].get(PASS, {}).get("not_run") for name in (comparison.before, comparison.after)]
    return next((reason for reason in reasons if reason), "no task was given")


def human_eval_not_run(comparison: Comparison, metrics: Mapping[str, Mapping[str, Any]]) -> str | None:
    """Why there is no HumanEval although it was asked for."""
    asked = [metrics[name].get("human_eval", {}) for name in (comparison.before, comparison.after)]
    return next((figures[PASS]["not_run"] for figures in asked if "not_run" in figures.get(PASS, {})), None)


def sandbox(comparison: Comparison, metrics: Mapping[str, Mapping[str, Any]]) -> int | None:
    """The level of isolation in which programs were run, which belongs beside their score; None where none was."""
    if not comparison.answers:
        return None
    level: int | None = metrics[comparison.after].get("settings", {}).get("sandbox")
    return level


def inside(comparison: Comparison) -> str | None:
    """How many passes of each model its programs could have spoilt; None where there is none."""
    found = [
        sum(pair[side].inside and pair[side].value == 1 for pairs in comparison.answers.values() for pair in pairs)
        for side in (0, 1)
    ]
    if not any(found):
        return None
    names = comparison.before, comparison.after
    counts = " and ".join(f"{count:,} of {name}" for name, count in zip(names, found, strict=True))
    return f"Passes by tests that were compared beside the program, which could have spoilt them: {counts}."


def _table(comparison: Comparison, metrics: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    before, after = comparison.before, comparison.after
    yield _line(("", "items", before, after, f"{_cut(after, 11)} − {_cut(before, 9)}"))
    yield "loss, nats per token"
    yield from (_line(_cells(row, LABELS[row.measure])) for row in comparison.rows if row.unit == "nats/token")
    level = sandbox(comparison, metrics)
    yield "pass@1, per cent" + (f" (programs run in a sandbox of level {level})" if level else "")
    if reason := not_run(comparison, metrics):
        yield from _not_run(reason)
    yield from (_line(_cells(row, row.part)) for row in comparison.rows if row.measure == PASS)
    yield from (_line(_cells(row, row.measure)) for row in comparison.rows if row.measure.startswith("sampled"))
    if reason := human_eval_not_run(comparison, metrics):
        yield from ("HumanEval, per cent", *_not_run(reason))
    yield from _block("HumanEval, per cent", [row for row in comparison.rows if row.measure.startswith(HUMAN_EVAL)])
    if passes := inside(comparison):
        yield from textwrap.wrap(passes, WIDTH)
    yield from _block("standard benchmarks", [row for row in comparison.rows if row.unit == SCORE])
    first, second = metrics[before], metrics[after]
    yield _line(("trainable parameters", "", f"{first['trainable']:,}", f"{second['trainable']:,}", ""))
    sizes = figures.mebibytes(first["bytes"]), figures.mebibytes(second["bytes"])
    yield _line(("weights on disk, MiB", "", *sizes, ""))


def _not_run(reason: str) -> list[str]:
    return textwrap.wrap(f"not run: {reason}", WIDTH, initial_indent="  ", subsequent_indent="  ")


def _block(heading: str, rows: Sequence[Row]) -> Iterator[str]:
    """Rows under their heading; nothing where there are none."""
    if rows:
        yield heading
        yield from (_line(_cells(row, row.measure.removeprefix(HUMAN_EVAL))) for row in rows)


def _cells(row: Row, label: str) -> Line:
    before, after = figures.level(row.before, row.unit), figures.level(row.after, row.unit)
    return (f"  {label}", f"{row.items:,}", before, after, figures.change(row.difference, row.unit))


def _line(cells: Line) -> str:
    aligned = zip((str.ljust, str.rjust, str.ljust, str.ljust, str.ljust), cells, COLUMNS, strict=True)
    return "  ".join(align(_cut(cell, width), width) for align, cell, width in aligned).rstrip()


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"


def _wrap(text: str) -> str:
    return textwrap.fill(text, WIDTH, break_on_hyphens=False)
