"""Charts of comparisons and trainings.

A point is filled if its interval decides something, else hollow, so that no meaning depends on colour alone.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tasks.core.statistics import Estimate
from tasks.stages.report import number_format
from tasks.stages.report.data.comparison import NATS
from tasks.stages.report.data.forgetting import LossChange
from tasks.stages.report.render.grammar import (
    TONES,
    ZOOM,
    Chart,
    Spec,
    axis,
    chart,
    colours,
    field,
    layer,
    rule,
)

MOST_POINTS = 300
"""Most points of a curve; longer curves are thinned."""
SIDES = (("left", "right"), ("bottom", "top"))
"""The fields with the ends of a horizontal interval, and with those of a vertical one."""


@dataclass(frozen=True)
class Effect:
    """One row of a forest plot."""

    label: str
    difference: Estimate
    unit: str
    tone: str
    """`good`, `bad` or `open`."""
    margin: float | None = None
    """The rise that still counts as no worse."""


@dataclass(frozen=True)
class Curve:
    """A quantity over the trained tokens of one model."""

    name: str
    points: Sequence[tuple[float, float]]
    held_out: Sequence[tuple[float, float]] = ()
    """The same quantity on held-out data, which is measured less often."""


@dataclass(frozen=True)
class Size:
    """A model by its size and its loss."""

    name: str
    mebibytes: float
    loss: Estimate


@dataclass(frozen=True)
class Forgetting:
    """The changes of both losses from the reference to a model, in nats per token."""

    name: str
    domain: Estimate
    """Below zero is a gain."""
    general: Estimate
    """Above zero is forgetting."""


def forest_plot(effects: Sequence[Effect], title: str, ends: tuple[str, str]) -> Chart:
    """Draw differences with their intervals around zero; `ends` are the words to the left and right of zero."""
    unit = effects[0].unit
    order = list(dict.fromkeys(effect.label for effect in effects))
    rows: list[dict[str, Any]] = [
        {
            "label": effect.label,
            "value": effect.difference.value,
            "low": effect.difference.low,
            "high": effect.difference.high,
            "tone": effect.tone,
            "text": number_format.change(effect.difference, effect.unit),
            "tip": f"{effect.label}: {number_format.change(effect.difference, effect.unit)}",
        }
        for effect in effects
        if math.isfinite(effect.difference.value)
    ]
    bounded = [row for row in rows if math.isfinite(row["low"]) and math.isfinite(row["high"])]
    margins = [{"label": e.label, "at": e.margin, "tip": f"margin {e.margin:+g}"} for e in effects if e.margin]
    y = field("label", "nominal", sort=order, axis={"title": None, "labelColor": "var(--text)", "grid": False})
    x = field("value", axis=axis(f"← {ends[0]}\u2003\u2003{ends[1]} →", unit, tickCount=5), scale={"nice": True})
    tone = field("tone", "nominal", scale={"domain": list(TONES), "range": list(TONES.values())}, legend=None)
    hollow = {"condition": {"test": "datum.tone === 'open'", "value": "var(--ground)"}, **tone}
    band: Spec = {"y": y, "color": tone}
    layers = [
        rule("x", 0),
        layer("rule", bounded, {**band, "x": field("low"), "x2": {"field": "high"}}, strokeWidth=2.5),
        layer("tick", margins, {"y": y, "x": field("at")}, color="var(--muted)", thickness=2, size=28),
        layer("point", rows, {"y": y, "x": x, "fill": hollow, "stroke": tone}, size=90, strokeWidth=2, opacity=1),
        layer("text", rows, {"y": y, "x": x, "text": field("text", "nominal")}, dy=-13, fontSize=11.5),
    ]
    return chart(title, 24 + 44 * len(order), [one for one in layers if one["data"]["values"]])


def bar_chart(rows: Sequence[tuple[str, Mapping[str, Estimate]]], title: str) -> Chart:
    """Draw shares: for each label one bar for each model, with its interval and value."""
    names = list(dict.fromkeys(name for _, models in rows for name in models))
    bars = [
        {
            "label": label,
            "model": name,
            "value": estimate.value,
            "low": estimate.low,
            "high": estimate.high,
            "tip": f"{label}, {name}: {number_format.level(estimate, number_format.PER_CENT)} %",
        }
        for label, models in rows
        for name, estimate in models.items()
    ]
    place = {
        "y": field("label", "nominal", sort=None, axis={"title": None, "labelColor": "var(--text)"}),
        "yOffset": field("model", "nominal", sort=names),
    }
    x = field("value", axis=axis(None, "share", tickCount=5), scale={"domainMin": 0})
    layers = [
        layer("bar", bars, {**place, "x": x, "color": colours(names, 0)}, cornerRadiusEnd=2),
        layer("rule", bars, {**place, "x": field("low"), "x2": {"field": "high"}}, color="var(--text)", opacity=0.7),
    ]
    return chart(title, 24 + 56 * len(rows), layers)


def curves(lines: Sequence[Curve], title: str, quantity: str, **scale: Any) -> Chart:
    """Draw a quantity over trained tokens: the running mean as a strong line, steps as a pale line, held-out values as points."""
    names = [line.name for line in lines]
    steps, means, points = [], [], []
    for line in lines:
        thin = _thinned(line.points)
        steps += [{"model": line.name, "x": x, "y": y} for x, y in thin]
        means += [{"model": line.name, "x": x, "y": y, "tip": _tip(line.name, x, y)} for x, y in _running_mean(thin)]
        points += [
            {"model": line.name, "x": x, "y": y, "tip": _tip(f"{line.name}, held out", x, y)} for x, y in line.held_out
        ]
    place = {
        "x": field("x", axis=axis("trained tokens", format="~s", tickCount=6)),
        "y": field("y", axis=axis(quantity), scale={"zero": False, **scale}),
        "color": colours(names),
    }
    layers = [
        layer("line", steps, place, opacity=0.3, strokeWidth=1.25) | {"params": [ZOOM]},
        layer("line", means, place, strokeWidth=2),
        layer("point", means, place, size=40, opacity=0, filled=True),
        layer("line", points, place, strokeDash=[2, 4], strokeWidth=1.25),
        layer("point", points, place, filled=True, size=70, opacity=1),
    ]
    return chart(title, 260, layers)


def forgetting_ends(ends: Sequence[Forgetting], margin: float, title: str, loss: str) -> Chart:
    """Draw the end point of each model with its intervals, on the axes of `forgetting_paths`. The reference is where the zero lines cross."""
    rows: list[dict[str, Any]] = [
        {
            "model": end.name,
            "x": end.general.value,
            "y": end.domain.value,
            "left": end.general.low,
            "right": end.general.high,
            "bottom": end.domain.low,
            "top": end.domain.high,
            "tip": f"{end.name}: {loss} {number_format.change(end.domain, NATS)}, general loss {number_format.change(end.general, NATS)}",
        }
        for end in ends
    ]
    across, up = ([row for row in rows if math.isfinite(row[low]) and math.isfinite(row[high])] for low, high in SIDES)
    place = _gain_and_loss([end.name for end in ends], loss)
    layers = [
        layer("point", rows, place, filled=True, size=110, opacity=1) | {"params": [ZOOM]},
        layer("rule", across, {**place, "x": {**place["x"], "field": "left"}, "x2": {"field": "right"}}, strokeWidth=2),
        layer("rule", up, {**place, "y": {**place["y"], "field": "bottom"}, "y2": {"field": "top"}}, strokeWidth=2),
        *_zero_and_margin(margin),
    ]
    return chart(title, 300, [one for one in layers if one["data"]["values"]])


def forgetting_paths(traces: Mapping[str, Sequence[LossChange]], margin: float, title: str) -> Chart:
    """Draw each model's path from the origin, with a point at every checkpoint. Downwards is gain, to the right is forgetting.

    `margin` is the rise of the general loss that still counts as no worse.
    """
    rows = [
        {
            "model": name,
            "x": point.general,
            "y": point.domain,
            "tokens": point.tokens,
            "tip": f"{name} after {point.tokens:,} tokens: domain loss {number_format.signed(point.domain)}, "
            f"general loss {number_format.signed(point.general)}",
        }
        for name, trace in traces.items()
        for point in trace
    ]
    place = _gain_and_loss(list(traces), "domain loss")
    path = {**place, "order": field("tokens"), "detail": field("model", "nominal")}
    layers = [
        layer("line", rows, path, strokeWidth=2) | {"params": [ZOOM]},
        *_zero_and_margin(margin),
        layer("point", rows, place, filled=True, size=70, opacity=1),
    ]
    return chart(title, 300, layers)


def _gain_and_loss(names: Sequence[str], loss: str) -> Spec:
    """Return the axes of domain gain against forgetting, and the colours of models."""
    return {
        "x": field("x", axis=axis("change of the general loss, nats per token (forgets →)", format="+~g", tickCount=6)),
        "y": field("y", axis=axis(f"change of the {loss} (↓ gains)", format="+~g")),
        "color": colours(names),
    }


def _zero_and_margin(margin: float) -> list[Spec]:
    """Return the lines at no change, and at the rise of the general loss that still counts as no worse."""
    return [rule("x", 0), rule("y", 0), rule("x", margin, dashed=True)]


def size_chart(sizes: Sequence[Size], title: str, loss: str) -> Chart:
    """Draw the loss of each model over its size on disk: left is smaller, low is better."""
    names = [size.name for size in sizes]
    rows = [
        {
            "model": size.name,
            "x": size.mebibytes,
            "y": size.loss.value,
            "low": size.loss.low,
            "high": size.loss.high,
            "tip": f"{size.name}: {size.mebibytes:,.1f} MiB, {loss} {number_format.level(size.loss, 'nats/token')}",
        }
        for size in sizes
    ]
    place = {
        "x": field("x", axis=axis("weights on disk, MiB", tickCount=6), scale={"zero": False, "padding": 24}),
        "y": field("y", axis=axis(f"{loss}, nats per token"), scale={"zero": False, "padding": 16}),
        "color": colours(names, 0),
    }
    interval = {**place, "y": {**place["y"], "field": "low"}, "y2": {"field": "high"}}
    label = {**place, "text": field("model", "nominal")}
    layers = [
        layer("point", rows, place, filled=True, size=110, opacity=1) | {"params": [ZOOM]},
        layer("rule", rows, interval, strokeWidth=2),
        layer("text", rows, label, align="left", dx=9),
    ]
    return chart(title, 260, layers)


def _tip(name: str, tokens: float, value: float) -> str:
    return f"{name}: {value:.4g} after {tokens:,.0f} tokens"


def _thinned(points: Sequence[tuple[float, float]], most: int = MOST_POINTS) -> list[tuple[float, float]]:
    """Return at most `most` points, each the mean of an equal number of neighbours."""
    size = max(1, math.ceil(len(points) / most))
    return [_mean(points[start : start + size]) for start in range(0, len(points), size)]


def _running_mean(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Average each value with a twentieth of all points on either side."""
    reach = max(1, len(points) // 20)
    windows = (points[max(0, i - reach) : i + reach + 1] for i in range(len(points)))
    return [(point[0], _mean(window)[1]) for point, window in zip(points, windows, strict=True)]


def _mean(points: Sequence[tuple[float, float]]) -> tuple[float, float]:
    return sum(x for x, _ in points) / len(points), sum(y for _, y in points) / len(points)
