"""Render a comparison of logs as one HTML page, which loads nothing and has no scripts."""

import math
from collections.abc import Sequence
from functools import partial

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from flows.experiments.logs import rendering
from flows.experiments.logs.comparison import Comparison, Report

CHANGES = 20
"""Largest number of listed items of a measure."""
LEFT, RIGHT, ROW = 3, 97, 44
"""Start and end of the plot in per cent of its width (so that text keeps its size on a phone), and the height of a row in pixels."""
NAME_CHARS = 18
"""Largest number of characters of a log's name above the plot, so that two names fit beside each other on a phone."""


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
    logs = [
        described
        for name, log in zip(report.names, report.logs, strict=True)
        for described in rendering.describe(name, log)
    ]
    return environment.get_template("page.html.j2").render(
        report=report, sections=sections, logs=logs, legend=rendering.legend(report), most=CHANGES
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
    """Draw each difference with its interval as SVG. A filled point is decided, a hollow one is not."""
    bounds = [x for _, one in rows for x in (one.difference.low, one.difference.high, one.difference.value)]
    reach = max([abs(x) for x in bounds if math.isfinite(x)] + [1e-9]) * 1.05

    def place(value: float) -> float:
        return LEFT + (RIGHT - LEFT) * (min(max(value, -reach), reach) + reach) / (2 * reach)

    bottom = 26 + ROW * len(rows)
    shapes = [
        _text(LEFT, 14, f"← {rendering.clipped(first, NAME_CHARS)} higher", "note"),
        _text(RIGHT, 14, f"{rendering.clipped(other, NAME_CHARS)} higher →", "note end"),
        Markup('<line class="zero" x1="{0:.2f}%" x2="{0:.2f}%" y1="22" y2="{1}"/>').format(place(0), bottom),
    ]
    ends = ((-reach / 1.05, "note"), (0.0, "note middle"), (reach / 1.05, "note end"))
    shapes += [_text(place(value), bottom + 16, rendering.number(value, "+"), kind) for value, kind in ends]
    for index, (label, one) in enumerate(rows):
        top, tone = 26 + ROW * index, "decided" if one.verdict in ("higher", "lower") else "open"
        low, high, y = place(one.difference.low), place(one.difference.high), top + 32
        shapes += [
            _text(LEFT, top + 18, label, "label"),
            Markup('<line class="interval {}" x1="{:.2f}%" x2="{:.2f}%" y1="{}" y2="{}"/>').format(
                tone, low, high, y, y
            ),
            Markup('<circle class="{}" cx="{:.2f}%" cy="{}" r="5"/>').format(tone, place(one.difference.value), y),
        ]
    return Markup('<svg height="{}" role="img" aria-label="{}">{}</svg>').format(
        bottom + 24, f"Differences, {other} less {first}", Markup("").join(shapes)
    )


def _text(x: float, y: float, content: str, kind: str) -> Markup:
    """Return the SVG of a text at `x` per cent of the width."""
    return Markup('<text class="{}" x="{:.2f}%" y="{}">{}</text>').format(kind, x, y, escape(content))
