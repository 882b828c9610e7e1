"""Common parts of charts, in the grammar of Vega-Lite, whose library is on the page and draws them.

Colours are variables of the page's style sheet, which has a light and a dark variant. Hovering over a mark shows its field `tip`. With
the control or shift key the wheel zooms; dragging moves the view, and a double click resets it.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Spec = dict[str, Any]
TONES = {"good": "var(--good)", "bad": "var(--bad)", "open": "var(--open)"}
"""Tone of a difference → its colour."""
FONT = 'system-ui, "Segoe UI", "Helvetica Neue", Arial, sans-serif'
"""The font of the page. It is repeated here because the widths of labels are measured with it."""
ZOOM = {
    "name": "zoom",
    "select": {"type": "interval", "zoom": "wheel![event.ctrlKey || event.shiftKey]"},
    "bind": "scales",
}
CONFIG: Spec = {
    "background": "transparent",
    "font": FONT,
    "view": {"stroke": None},
    "axis": {
        "domain": False,
        "ticks": False,
        "gridColor": "var(--line)",
        "labelColor": "var(--muted)",
        "titleColor": "var(--muted)",
        "titleFontWeight": "normal",
        "labelFontSize": 12,
        "titleFontSize": 12,
        "labelPadding": 6,
        "labelFlush": False,
        "labelOverlap": "greedy",
        "labelLimit": 150,
    },
    "legend": {
        "orient": "top",
        "title": None,
        "labelColor": "var(--text)",
        "labelFontSize": 13,
        "symbolType": "square",
        "symbolStrokeWidth": 0,
        "columns": 3,
    },
    "text": {"fill": "var(--text)", "fontSize": 12},
}
"""The Vega-Lite configuration of every chart."""


@dataclass(frozen=True)
class Chart:
    """A chart, and its title, which screen readers read."""

    title: str
    spec: Spec


def chart(title: str, height: int, layers: Sequence[Spec], **spec: Any) -> Chart:
    """Return a chart of layers that is as wide as its container; `height` is in pixels."""
    frame = {"width": "container", "height": height, "autosize": {"type": "fit-x", "contains": "padding"}}
    return Chart(title, {**frame, "description": title, **spec, "layer": list(layers)})


def layer(mark: str, values: Iterable[Mapping[str, Any]], encoding: Spec, **look: Any) -> Spec:
    """Return a layer of marks, one for each of `values`. A field `tip` becomes the tooltip and the text for screen readers."""
    rows = [{key: number_or_none(value) for key, value in row.items()} for row in values]
    has_tip = any("tip" in row for row in rows)
    told = {"tooltip": field("tip", "nominal"), "description": field("tip", "nominal")} if has_tip else {}
    silent = {} if has_tip else {"aria": False, "tooltip": None}
    return {"data": {"values": rows}, "mark": {"type": mark, **silent, **look}, "encoding": {**encoding, **told}}


def field(name: str, kind: str = "quantitative", **more: Any) -> Spec:
    """Return the encoding of a field."""
    return {"field": name, "type": kind, **more}


def axis(title: str | None, unit: str = "", **more: Any) -> Spec:
    """Return an axis; the unit `share` is labelled in per cent."""
    return {"title": title, **({"format": "~%"} if unit == "share" else {}), **more}


def colours(names: Sequence[str], first: int = 1) -> Spec:
    """Return the encoding of `model` by colour. `names[0]` gets colour number `first`; 0 is the grey of the reference."""
    palette = [f"var(--model-{colour_number(index + first)})" for index in range(len(names))]
    return field("model", "nominal", scale={"domain": list(names), "range": palette})


def colour_number(index: int) -> int:
    """Return the number of a model's colour: 0 for the reference; the other models cycle through five colours."""
    return (index - 1) % 5 + 1 if index else 0


def rule(channel: str, at: float, *, dashed: bool = False) -> Spec:
    """Return a line across the plot at a value of the channel `x` or `y`."""
    look = {"strokeDash": [3, 3]} if dashed else {}
    return layer("rule", [{"at": at}], {channel: field("at")}, color="var(--muted)", **look)


def word(channel: str, at: float, text: str) -> Spec:
    """Return a word above the plot, at a value of `x`."""
    encoding = {channel: field("at"), "y": {"value": -8}, "text": field("word", "nominal")}
    return layer("text", [{"at": at, "word": text}], encoding, color="var(--muted)")


def number_or_none(value: Any) -> Any:
    """Return the value; None for a float that JSON cannot hold."""
    return None if isinstance(value, float) and not math.isfinite(value) else value
