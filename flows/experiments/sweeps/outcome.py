"""Report the outcome of a sweep: a table, the figures of each trial, a page with a plot, and the winner's settings in params.yaml."""

import json
import math
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flows.experiments import results_table
from flows.experiments.recipes import MEASURES, Figures
from flows.experiments.sweeps import sweep as sweeps
from flows.experiments.sweeps.samplers import Point
from flows.experiments.sweeps.sweep import COSTS, Row, Sweep
from flows.project.config_editing import edited_config
from tasks import configuration
from tasks.core.statistics import Estimate, over_seeds

FOLDER = Path(".ratchet/sweep")
WORDS = {
    "validation": "validation loss",
    "general": "general loss",
    "peak_memory_mb": "peak MB",
    "tokens_per_s": "tokens/s",
    "trainable": "trains",
    "bytes": "bytes",
}


@dataclass(frozen=True)
class Tested:
    """The winner on the test set: its loss, averaged over seeds, and that loss minus the base's. Intervals are over test items."""

    loss: Estimate
    gain: Estimate


def test(sweep: Sweep, measured: Sequence[Figures], base: Figures) -> Tested:
    """Return the test results of the winner's trials and of the base."""
    return Tested(*results_table.against_base(measured, base, MEASURES[sweep.stage]))


def ranked(sweep: Sweep, rows: Sequence[Row]) -> list[Row]:
    """Return the points with the best first and the diverged ones last."""
    return sorted(rows, key=lambda row: (not math.isfinite(row.mean), sweep.sign * row.mean))


def against_best(row: Row, winner: Row) -> Estimate | None:
    """Return a point's figure minus the winner's, paired by seed; None for the winner and for a single seed."""
    if row is winner or len(row.values) < 2 or not math.isfinite(row.mean):
        return None
    return over_seeds([value - best for value, best in zip(row.values, winner.values, strict=True)])


def spread(values: Sequence[float]) -> Estimate | None:
    """Return the mean over seeds with its interval; None for a single seed."""
    return over_seeds(values) if len(values) > 1 else None


def head(sweep: Sweep) -> list[str]:
    """Return the head of the table."""
    costs = [WORDS[name] for name in COSTS if name != sweep.metric]
    return [*(axis.setting for axis in sweep.axes), _word(sweep.metric), "by seed", "less the best, over seeds", *costs]


def cells(sweep: Sweep, rows: Sequence[Row]) -> list[list[str]]:
    """Return the rows of the table, the best first."""
    winner = sweeps.best(sweep, rows)
    return [list(_cells(sweep, row, winner)) for row in ranked(sweep, rows)]


def _cells(sweep: Sweep, row: Row, winner: Row | None) -> Iterator[str]:
    for number, axis in enumerate(sweep.axes):
        yield f"{row.point[axis.setting]}{' *' if number == 0 and row is winner else ''}"
    yield _shown(spread(row.values) or row.mean) if math.isfinite(row.mean) else "diverged"
    yield ", ".join(_number(value) for value in row.values)
    difference = against_best(row, winner) if winner else None
    yield _shown(difference, "+") if difference else "—"
    for name in COSTS:
        if name != sweep.metric:
            known = [result[name] for result in row.results if result.get(name) is not None]
            yield _number(math.fsum(known) / len(known)) if known else "—"


def notes(sweep: Sweep, rows: Sequence[Row]) -> list[str]:
    """Return the explanations for the table."""
    chosen = [
        f"* the best of {len(rows)} by {_word(sweep.metric)}. The best of many looks better than it is: rely on its result "
        "on the test set."
    ]
    if len(sweep.seeds) > 1:
        return [
            f"Means over {len(sweep.seeds)} seeds. Brackets: 95 % intervals (Student's t), of differences paired by seed: what another seed "
            "would give.",
            *chosen,
        ]
    return [
        "One seed: there is no interval, and a difference may be chance. "
        f"Name seeds for one: --set {sweep.stage}.seed=0..2",
        *chosen,
    ]


def test_line(tested: Tested) -> str:
    """Return the line with the winner's results on the test set."""
    return (
        f"On the test set, which chose nothing: loss {_shown(tested.loss)}, {_shown(tested.gain, '+')} against the base, in nats per token "
        "(intervals over test items)."
    )


def table(sweep: Sweep, rows: Sequence[Row]) -> str:
    """Return the table as Markdown."""
    names = head(sweep)
    lines = [names, ["---"] * len(names), *cells(sweep, rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def save(sweep: Sweep, rows: Sequence[Row], below: Sequence[str]) -> Path:
    """Write the table, the figures of each trial and the page with the plot, and return their folder."""
    folder = FOLDER / results_table.as_folder(sweep.name)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "table.md").write_text("\n".join([table(sweep, rows), "", *below]) + "\n", encoding="utf-8")
    figures = [
        {
            **row.point,
            f"{sweep.stage}.seed": seed,
            sweep.metric: value if math.isfinite(value) else None,
            "folder": result["folder"],
        }
        for row in rows
        for seed, value, result in zip(sweep.seeds, row.values, row.results, strict=True)
    ]
    results_table.write_figures(folder / results_table.FIGURES, figures)
    command = [sys.executable, "-m", "tasks.stages.report.sweep_page"]
    subprocess.run(command, input=json.dumps(_request(sweep, rows, below, folder)), text=True, check=True)
    return folder


def _request(sweep: Sweep, rows: Sequence[Row], below: Sequence[str], folder: Path) -> dict[str, Any]:
    winner = sweeps.best(sweep, rows)
    axes = [
        {
            "name": axis.setting,
            "values": [row.point[axis.setting] for row in rows],
            "is_logarithmic": bool(axis.span and axis.span.is_logarithmic),
        }
        for axis in sweep.axes
    ]
    values = [row.mean if math.isfinite(row.mean) else None for row in rows]
    return {
        "to": str(folder / "index.html"),
        "title": f"Sweep of {', '.join(axis.setting for axis in sweep.axes)}",
        "lead": f"A line is a point, and the strong one is the best. At the right {_word(sweep.metric)}, the better the higher.",
        "best": next((number for number, row in enumerate(rows) if row is winner), None),
        "dimensions": [*axes, {"name": _word(sweep.metric), "values": values, "is_reversed": sweep.sign > 0}],
        "head": head(sweep),
        "rows": cells(sweep, rows),
        "notes": list(below),
    }


def take(sweep: Sweep, point: Point) -> None:
    """Write the values of a point into params.yaml, with a section for each method that it chooses. All other lines stay."""
    wanted: Mapping[str, Any] = sweeps.sections_of(sweep, point, sweep.seeds[0])["methods"]
    with edited_config(configuration.PARAMS) as tree:
        sweeps.put(tree, point)
        for method in wanted:
            tree.setdefault("methods", {}).setdefault(method, {})


def _word(metric: str) -> str:
    return WORDS.get(metric, metric)


def _shown(value: Estimate | float, sign: str = "") -> str:
    if isinstance(value, Estimate):
        if not math.isfinite(value.high):  # with seeds that are all equal
            return f"{_number(value.value, sign)} [no interval]"
        return f"{_number(value.value, sign)} [{_number(value.low, sign)}, {_number(value.high, sign)}]"
    return _number(value, sign)


def _number(value: float, sign: str = "") -> str:
    text = (
        f"{value:{sign},.0f}"
        if abs(value) >= 1000
        else f"{value:{sign}.4g}"
        if abs(value) >= 10
        else f"{value:{sign}.4f}"
    )
    return text.replace("-", "−")
