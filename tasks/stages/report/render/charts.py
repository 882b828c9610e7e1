"""Charts of comparisons and trainings, as inline SVG.

Colours are classes of the page's style sheet, which has a light and a dark variant. A point is filled if its interval decides
something and hollow if it does not, so no meaning depends on colour alone.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from tasks.core.statistics import Estimate
from tasks.stages.report import number_format
from tasks.stages.report.data.forgetting import LossChange
from tasks.stages.report.render import svg
from tasks.stages.report.render.svg import WIDTH, Scale

LABEL_END, PLOT_START, PLOT_END = 150, 166, 520
"""Ends of labels, and start and end of the plot in horizontal charts; figures are printed to the right of it."""


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
class LossCurve:
    """The losses of one model's training: points of (tokens, loss)."""

    name: str
    train: Sequence[tuple[float, float]]
    valid: Sequence[tuple[float, float]]


def forest_plot(effects: Sequence[Effect], title: str, ends: tuple[str, str]) -> Markup:
    """Draw differences with their intervals around zero; `ends` are the words to its left and right."""
    bounds = [x for e in effects for x in (e.difference.low, e.difference.high, e.difference.value, e.margin or 0)]
    scale = Scale(*_around([x for x in bounds if math.isfinite(x)]), PLOT_START, PLOT_END)
    bottom = 34 + 36 * len(effects)
    shapes = [
        svg.text(PLOT_START, 14, f"← {ends[0]}", "note"),
        svg.text(PLOT_END, 14, f"{ends[1]} →", "note end"),
        *_vertical_axis(scale, bottom, effects[0].unit, signed=True),
        svg.line(scale(0), 24, scale(0), bottom, "zero"),
    ]
    for index, effect in enumerate(effects):
        shapes += _effect(effect, 34 + 18 + 36 * index, scale)
    return svg.picture(bottom + 24, title, shapes)


def bar_chart(rows: Sequence[tuple[str, Mapping[str, Estimate]]], title: str) -> Markup:
    """Draw shares from 0 to the largest bound: for each label one bar for each model, with its interval and value."""
    most = max(estimate.high for _, models in rows for estimate in models.values())
    ticks = svg.ticks(0, max(most, 0.05))
    scale = Scale(0, ticks[-1], PLOT_START, PLOT_END)
    heights = [24 * len(models) + 16 for _, models in rows]
    shapes = list(_vertical_axis(scale, 8 + sum(heights), number_format.PER_CENT, signed=False))
    top = 8.0
    for (label, models), height in zip(rows, heights, strict=True):
        shapes.append(svg.text(LABEL_END, top + height / 2 + 4, label, "label end"))
        for index, (name, estimate) in enumerate(models.items()):
            shapes += _bar(name, estimate, index, top + 8 + 24 * index, scale)
        top += height
    return svg.picture(top + 24, title, shapes)


def loss_curves(courses: Sequence[LossCurve], title: str) -> Markup:
    """Draw loss over trained tokens: each step pale, the running mean strong, validation as points."""
    points = [point for course in courses for point in (*course.train, *course.valid)] or [(0.0, 0.0)]
    ticks_x = svg.ticks(0, max(x for x, _ in points))
    ticks_y = svg.ticks(min(y for _, y in points), max(y for _, y in points))
    scale_x = Scale(ticks_x[0], ticks_x[-1], 48, WIDTH - 36)
    scale_y = Scale(ticks_y[0], ticks_y[-1], 260, 28)
    shapes = [svg.text(48, 12, "nats per token", "note"), svg.text(48, 302, "trained tokens", "note")]
    for y, label in zip(ticks_y, svg.tick_labels(ticks_y), strict=True):
        shapes += [
            svg.line(48, scale_y(y), WIDTH - 36, scale_y(y), "grid"),
            svg.text(40, scale_y(y) + 4, label, "tick end"),
        ]
    shapes += [svg.text(scale_x(x), 280, f"{x:,.0f}", "tick middle") for x in ticks_x]
    for index, course in enumerate(courses):
        shapes += _curve(course, colour(index + 1), scale_x, scale_y)
    return svg.picture(310, title, shapes)


def forgetting_paths(traces: Mapping[str, Sequence[LossChange]], margin: float, title: str) -> Markup:
    """Draw each model's path from the origin, with a point at every checkpoint: downwards is gained, to the right forgotten.

    `margin` is the rise of the general loss that still counts as no worse.
    """
    points = [point for trace in traces.values() for point in trace]
    ticks_x = svg.ticks(
        min(0.0, *(point.general for point in points)), max(margin, *(point.general for point in points))
    )
    ticks_y = svg.ticks(min(0.0, *(point.domain for point in points)), max(0.0, *(point.domain for point in points)))
    left, right, top, bottom = 60, WIDTH - 36, 40, 312
    scale_x, scale_y = Scale(ticks_x[0], ticks_x[-1], left, right), Scale(ticks_y[0], ticks_y[-1], bottom, top)
    shapes = [
        svg.text(left, 12, "change of the domain loss, nats per token (↓ gains)", "note"),
        svg.text(right, 354, "change of the general loss, nats per token (forgets →)", "note end"),
    ]
    for x, label in zip(ticks_x, svg.tick_labels(ticks_x, signed=True), strict=True):
        shapes += [
            svg.line(scale_x(x), top, scale_x(x), bottom, "grid"),
            svg.text(scale_x(x), 332, label, "tick middle"),
        ]
    for y, label in zip(ticks_y, svg.tick_labels(ticks_y, signed=True), strict=True):
        shapes += [
            svg.line(left, scale_y(y), right, scale_y(y), "grid"),
            svg.text(52, scale_y(y) + 4, label, "tick end"),
        ]
    shapes += [
        svg.line(scale_x(0), top, scale_x(0), bottom, "zero"),
        svg.line(left, scale_y(0), right, scale_y(0), "zero"),
        svg.line(scale_x(margin), top, scale_x(margin), bottom, "margin"),
        svg.text(scale_x(margin), top - 8, "margin", "note middle"),
    ]
    for index, (name, trace) in enumerate(traces.items()):
        shapes += _path(name, trace, colour(index + 1), scale_x, scale_y)
    return svg.picture(362, title, shapes)


def colour(index: int) -> str:
    """Return the class of a model's colour: 0 is the reference, five others take turns."""
    return f"model-{(index - 1) % 5 + 1 if index else 0}"


def _curve(course: LossCurve, kind: str, scale_x: Scale, scale_y: Scale) -> Iterator[Markup]:
    thin = _thinned(course.train)
    yield svg.polyline(thin, scale_x, scale_y, f"step {kind}")
    yield svg.polyline(_running_mean(thin), scale_x, scale_y, f"mean {kind}")
    yield svg.polyline(course.valid, scale_x, scale_y, f"valid {kind}")
    for x, y in course.valid:
        tip = f"{course.name}: validation loss {number_format.number(y)} after {x:,.0f} tokens"
        yield svg.circle(scale_x(x), scale_y(y), kind, tip)


def _path(name: str, trace: Sequence[LossChange], kind: str, scale_x: Scale, scale_y: Scale) -> Iterator[Markup]:
    yield svg.polyline([(point.general, point.domain) for point in trace], scale_x, scale_y, kind)
    for point in trace:
        changes = (
            f"domain loss {number_format.signed(point.domain)}, general loss {number_format.signed(point.general)}"
        )
        tip = f"{name} after {point.tokens:,} tokens: {changes}"
        yield svg.circle(scale_x(point.general), scale_y(point.domain), kind, tip)


def _effect(effect: Effect, y: float, scale: Scale) -> Iterator[Markup]:
    low, high = (min(max(x, scale.low), scale.high) for x in (effect.difference.low, effect.difference.high))
    tip = f"{effect.label}: {number_format.change(effect.difference, effect.unit)}"
    yield svg.text(LABEL_END, y + 4, effect.label, "label end")
    if effect.margin is not None:
        yield svg.line(scale(effect.margin), y - 14, scale(effect.margin), y + 14, "margin")
        yield svg.text(scale(effect.margin), y - 18, "margin", "note middle")
    yield svg.line(scale(low), y, scale(high), y, f"interval {effect.tone}")
    yield svg.circle(scale(effect.difference.value), y, effect.tone, tip)
    yield svg.text(PLOT_END + 16, y + 4, number_format.change(effect.difference, effect.unit), "figure")


def _bar(name: str, estimate: Estimate, index: int, y: float, scale: Scale) -> Iterator[Markup]:
    tip = f"{name}: {number_format.level(estimate, number_format.PER_CENT)} %"
    yield svg.rect(PLOT_START, y, round(scale(estimate.value) - PLOT_START, 1), 16, colour(index), tip, radius=2)
    yield svg.line(scale(estimate.low), y + 8, scale(estimate.high), y + 8, "whisker")
    yield svg.text(PLOT_END + 16, y + 12, number_format.level(estimate, number_format.PER_CENT), "figure")


def _vertical_axis(scale: Scale, bottom: float, unit: str, *, signed: bool) -> Iterator[Markup]:
    ticks = [tick for tick in svg.ticks(scale.low, scale.high) if scale.low <= tick <= scale.high]
    labels = svg.tick_labels([100 * tick if unit == number_format.PER_CENT else tick for tick in ticks], signed=signed)
    for tick, label in zip(ticks, labels, strict=True):
        yield svg.line(scale(tick), 24 if signed else 8, scale(tick), bottom, "grid")
        yield svg.text(scale(tick), bottom + 16, label, "tick middle")


def _around(values: Sequence[float]) -> tuple[float, float]:
    """Return limits around zero and every value, with some margin."""
    low, high = min(0.0, *values), max(0.0, *values)
    pad = 0.08 * (high - low) or 0.01
    return low - pad, high + pad


def _thinned(points: Sequence[tuple[float, float]], most: int = 300) -> list[tuple[float, float]]:
    """Return at most `most` points, each the mean of equally many neighbours."""
    size = max(1, math.ceil(len(points) / most))
    return [_mean(points[start : start + size]) for start in range(0, len(points), size)]


def _running_mean(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Average each loss with a twentieth of all points on either side."""
    reach = max(1, len(points) // 20)
    windows = (points[max(0, i - reach) : i + reach + 1] for i in range(len(points)))
    return [(point[0], _mean(window)[1]) for point, window in zip(points, windows, strict=True)]


def _mean(points: Sequence[tuple[float, float]]) -> tuple[float, float]:
    return sum(x for x, _ in points) / len(points), sum(y for _, y in points) / len(points)
