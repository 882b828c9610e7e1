"""Charts as inline SVG. Colours are classes of the page's style sheet, so light and dark are its business.

A point is filled where its interval decides something and hollow where it does not: colour is never alone.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from tasks.core.statistics import Estimate
from tasks.stages.report import figures, svg
from tasks.stages.report.svg import WIDTH, Scale
from tasks.stages.report.trace import Point

LABEL_END, PLOT_START, PLOT_END = 150, 166, 520
"""Where labels end, and where the plot of horizontal charts begins and ends; figures stand to the right of it."""


@dataclass(frozen=True)
class Effect:
    """A line of a forest plot."""

    label: str
    difference: Estimate
    unit: str
    tone: str
    """`good`, `bad` or `open`."""
    margin: float | None = None
    """How far it may rise and still count as no worse."""


@dataclass(frozen=True)
class Course:
    """The training of one model: points of (tokens, loss)."""

    name: str
    train: Sequence[tuple[float, float]]
    valid: Sequence[tuple[float, float]]


def forest(effects: Sequence[Effect], title: str, ends: tuple[str, str]) -> Markup:
    """Differences with their intervals around zero, and what lies to its left and right."""
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


def bars(rows: Sequence[tuple[str, Mapping[str, Estimate]]], title: str) -> Markup:
    """Shares from 0 to the largest bound: for each label one bar for each model, with its interval and figures."""
    most = max(estimate.high for _, models in rows for estimate in models.values())
    ticks = svg.ticks(0, max(most, 0.05))
    scale = Scale(0, ticks[-1], PLOT_START, PLOT_END)
    heights = [24 * len(models) + 16 for _, models in rows]
    shapes = list(_vertical_axis(scale, 8 + sum(heights), figures.PER_CENT, signed=False))
    top = 8.0
    for (label, models), height in zip(rows, heights, strict=True):
        shapes.append(svg.text(LABEL_END, top + height / 2 + 4, label, "label end"))
        for index, (name, estimate) in enumerate(models.items()):
            shapes += _bar(name, estimate, index, top + 8 + 24 * index, scale)
        top += height
    return svg.picture(top + 24, title, shapes)


def curves(courses: Sequence[Course], title: str) -> Markup:
    """Loss over trained tokens: each step pale, its running mean strong, validation as points."""
    points = [point for course in courses for point in (*course.train, *course.valid)] or [(0.0, 0.0)]
    ticks_x = svg.ticks(0, max(x for x, _ in points))
    ticks_y = svg.ticks(min(y for _, y in points), max(y for _, y in points))
    scale_x = Scale(ticks_x[0], ticks_x[-1], 48, WIDTH - 36)
    scale_y = Scale(ticks_y[0], ticks_y[-1], 260, 28)
    shapes = [svg.text(48, 12, "nats per token", "note"), svg.text(48, 302, "trained tokens", "note")]
    for y, label in zip(ticks_y, svg.labels(ticks_y), strict=True):
        shapes += [
            svg.line(48, scale_y(y), WIDTH - 36, scale_y(y), "grid"),
            svg.text(40, scale_y(y) + 4, label, "tick end"),
        ]
    shapes += [svg.text(scale_x(x), 280, f"{x:,.0f}", "tick middle") for x in ticks_x]
    for index, course in enumerate(courses):
        shapes += _curve(course, colour(index + 1), scale_x, scale_y)
    return svg.picture(310, title, shapes)


def paths(traces: Mapping[str, Sequence[Point]], margin: float, title: str) -> Markup:
    """Each model's way from the origin, with a point at every checkpoint: downwards it gains, to the right it forgets.

    `margin` is how far the general loss may rise and still count as no worse.
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
    for x, label in zip(ticks_x, svg.labels(ticks_x, signed=True), strict=True):
        shapes += [
            svg.line(scale_x(x), top, scale_x(x), bottom, "grid"),
            svg.text(scale_x(x), 332, label, "tick middle"),
        ]
    for y, label in zip(ticks_y, svg.labels(ticks_y, signed=True), strict=True):
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
        shapes += _way(name, trace, colour(index + 1), scale_x, scale_y)
    return svg.picture(362, title, shapes)


def colour(index: int) -> str:
    """The class of a model's colour: 0 is the reference, five others take turns."""
    return f"model-{(index - 1) % 5 + 1 if index else 0}"


def _curve(course: Course, kind: str, scale_x: Scale, scale_y: Scale) -> Iterator[Markup]:
    thin = _thinned(course.train)
    yield svg.path(thin, scale_x, scale_y, f"step {kind}")
    yield svg.path(_running_mean(thin), scale_x, scale_y, f"mean {kind}")
    yield svg.path(course.valid, scale_x, scale_y, f"valid {kind}")
    for x, y in course.valid:
        tip = f"{course.name}: validation loss {figures.number(y)} after {x:,.0f} tokens"
        yield svg.circle(scale_x(x), scale_y(y), kind, tip)


def _way(name: str, trace: Sequence[Point], kind: str, scale_x: Scale, scale_y: Scale) -> Iterator[Markup]:
    yield svg.path([(point.general, point.domain) for point in trace], scale_x, scale_y, kind)
    for point in trace:
        changes = f"domain loss {figures.signed(point.domain)}, general loss {figures.signed(point.general)}"
        tip = f"{name} after {point.tokens:,} tokens: {changes}"
        yield svg.circle(scale_x(point.general), scale_y(point.domain), kind, tip)


def _effect(effect: Effect, y: float, scale: Scale) -> Iterator[Markup]:
    low, high = (min(max(x, scale.low), scale.high) for x in (effect.difference.low, effect.difference.high))
    tip = f"{effect.label}: {figures.change(effect.difference, effect.unit)}"
    yield svg.text(LABEL_END, y + 4, effect.label, "label end")
    if effect.margin is not None:
        yield svg.line(scale(effect.margin), y - 14, scale(effect.margin), y + 14, "margin")
        yield svg.text(scale(effect.margin), y - 18, "margin", "note middle")
    yield svg.line(scale(low), y, scale(high), y, f"interval {effect.tone}")
    yield svg.circle(scale(effect.difference.value), y, effect.tone, tip)
    yield svg.text(PLOT_END + 16, y + 4, figures.change(effect.difference, effect.unit), "figure")


def _bar(name: str, estimate: Estimate, index: int, y: float, scale: Scale) -> Iterator[Markup]:
    tip = f"{name}: {figures.level(estimate, figures.PER_CENT)} %"
    yield Markup('<rect x="{}" y="{}" width="{}" height="16" rx="2" class="{}"><title>{}</title></rect>').format(
        PLOT_START, y, round(scale(estimate.value) - PLOT_START, 1), colour(index), tip
    )
    yield svg.line(scale(estimate.low), y + 8, scale(estimate.high), y + 8, "whisker")
    yield svg.text(PLOT_END + 16, y + 12, figures.level(estimate, figures.PER_CENT), "figure")


def _vertical_axis(scale: Scale, bottom: float, unit: str, *, signed: bool) -> Iterator[Markup]:
    ticks = [tick for tick in svg.ticks(scale.low, scale.high) if scale.low <= tick <= scale.high]
    labels = svg.labels([100 * tick if unit == figures.PER_CENT else tick for tick in ticks], signed=signed)
    for tick, label in zip(ticks, labels, strict=True):
        yield svg.line(scale(tick), 24 if signed else 8, scale(tick), bottom, "grid")
        yield svg.text(scale(tick), bottom + 16, label, "tick middle")


def _around(values: Sequence[float]) -> tuple[float, float]:
    """Limits that hold zero and every value, with some air."""
    low, high = min(0.0, *values), max(0.0, *values)
    air = 0.08 * (high - low) or 0.01
    return low - air, high + air


def _thinned(points: Sequence[tuple[float, float]], most: int = 300) -> list[tuple[float, float]]:
    """At most `most` points: means of equally many neighbours."""
    size = max(1, math.ceil(len(points) / most))
    return [_mean(points[start : start + size]) for start in range(0, len(points), size)]


def _running_mean(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Each loss averaged over itself and a twentieth of all points on either side."""
    reach = max(1, len(points) // 20)
    windows = (points[max(0, i - reach) : i + reach + 1] for i in range(len(points)))
    return [(point[0], _mean(window)[1]) for point, window in zip(points, windows, strict=True)]


def _mean(points: Sequence[tuple[float, float]]) -> tuple[float, float]:
    return sum(x for x, _ in points) / len(points), sum(y for _, y in points) / len(points)
