"""Render a comparison of logs as one page of HTML, which loads and runs nothing."""

import math
from collections.abc import Sequence
from functools import partial

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from flows.experiments.logs import rendering
from flows.experiments.logs.comparison import Comparison, Report

CHANGES = 20
"""Items of a measure that are listed."""
LEFT, RIGHT, ROW = 260, 700, 30
"""Start and end of the plot, and the height of a row, in units of the drawing."""


def page(report: Report) -> str:
    """Return the page."""
    environment = Environment(
        loader=PackageLoader("flows.experiments.logs", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "shown": rendering.shown,
        "number": rendering.number,
        "interval": rendering.interval,
        "signed": partial(rendering.interval, sign="+"),
        "p": rendering.p_value,
        "to_decide": rendering.to_decide,
        "detectable": rendering.detectable,
    }
    pairs = dict.fromkeys((one.pair.first, one.pair.other) for one in report.comparisons)
    sections = [
        _section(
            [one for one in report.comparisons if (one.pair.first, one.pair.other) == pair],
            first=pair[0],
            other=pair[1],
        )
        for pair in pairs
    ]
    lines = [
        line for name, log in zip(report.names, report.logs, strict=True) for line in rendering.describe(name, log)
    ]
    return environment.get_template("page.html.j2").render(
        report=report, sections=sections, logs=lines, legend=rendering.legend(report), most=CHANGES
    )


def _section(comparisons: Sequence[Comparison], first: str, other: str) -> dict[str, object]:
    several = rendering.several_tasks(comparisons)
    titles = [rendering.title(one, several) for one in comparisons]
    return {
        "first": first,
        "other": other,
        "rows": list(zip(titles, comparisons, strict=True)),
        "plot": forest_plot(list(zip(titles, comparisons, strict=True)), first, other),
        "warnings": rendering.warnings(comparisons),
    }


def forest_plot(rows: Sequence[tuple[str, Comparison]], first: str, other: str) -> Markup:
    """Draw each difference on its interval as SVG; a filled point is decided, a hollow one is not."""
    bounds = [x for _, one in rows for x in (one.difference.low, one.difference.high, one.difference.value)]
    reach = max([abs(x) for x in bounds if math.isfinite(x)] + [1e-9]) * 1.05

    def place(value: float) -> float:
        return LEFT + (RIGHT - LEFT) * (min(max(value, -reach), reach) + reach) / (2 * reach)

    bottom = 30 + ROW * len(rows)
    shapes = [
        _text(LEFT, 14, f"← {rendering.clipped(first)} higher", "note"),
        _text(RIGHT, 14, f"{rendering.clipped(other)} higher →", "note end"),
        Markup('<line class="zero" x1="{0:.1f}" x2="{0:.1f}" y1="22" y2="{1}"/>').format(place(0), bottom),
    ]
    shapes += [
        _text(place(value), bottom + 16, rendering.number(value, "+"), "note middle")
        for value in (-reach / 1.05, 0.0, reach / 1.05)
    ]
    for index, (label, one) in enumerate(rows):
        y, tone = 40 + ROW * index, "decided" if one.verdict in ("higher", "lower") else "open"
        low, high = place(one.difference.low), place(one.difference.high)
        shapes += [
            _text(LEFT - 16, y + 4, label, "end"),
            Markup('<line class="interval {}" x1="{:.1f}" x2="{:.1f}" y1="{}" y2="{}"/>').format(tone, low, high, y, y),
            Markup('<circle class="{}" cx="{:.1f}" cy="{}" r="5"/>').format(tone, place(one.difference.value), y),
        ]
    return Markup('<svg viewBox="0 0 720 {}" role="img" aria-label="{}">{}</svg>').format(
        bottom + 24, f"Differences, {other} less {first}", Markup("").join(shapes)
    )


def _text(x: float, y: float, content: str, kind: str) -> Markup:
    return Markup('<text class="{}" x="{:.1f}" y="{}">{}</text>').format(kind, x, y, escape(content))
