"""Charts of a turn of the loop: every example by its signals, and the origins of each round's examples.

A set has a colour and a shape. Examples that were chosen are filled; members of a set that were not chosen are hollow.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from tasks.core.records import Signals
from tasks.stages.report import number_format
from tasks.stages.report.data.loop import BINS, Step, Turn, levels_of, quality_histogram, shown_set
from tasks.stages.report.render import svg
from tasks.stages.report.render.charts import colour
from tasks.stages.report.render.svg import WIDTH, Scale

LEFT, RIGHT, TOP, BOTTOM = 60, WIDTH - 36, 44, 300
MOST = 1_500
"""Examples of no set that are drawn at most; more would hide the others."""


@dataclass(frozen=True)
class Axis:
    """The label of an axis, and the limit beyond which an example belongs to a set."""

    words: str
    limit: float | None


@dataclass(frozen=True)
class Dot:
    """The position of an example in a chart."""

    x: float
    y: float
    row: Signals


def loss_map(turn: Turn) -> Markup | None:
    """Draw the data map: loss after the training over loss before it. Below the diagonal the loss fell."""
    dots = _dots(turn.signals, "loss_before", "loss_after")
    axes = (
        Axis("loss before the training, nats per token", turn.threshold("loss_before")),
        Axis("loss after it", turn.threshold("loss_after")),
    )
    return _scatter(dots, axes, "Loss of every example before and after the training", diagonal=True) if dots else None


def neighbour_map(turn: Turn) -> Markup | None:
    """Draw the neighbourhood map: loss after the training over similarity to the nearest prompts. Outliers are to the left."""
    dots = _dots(turn.signals, "neighbour_similarity", "loss_after")
    axes = (
        Axis("mean cosine to the nearest prompts", turn.threshold("neighbour_similarity")),
        Axis("loss after the training, nats per token", turn.threshold("loss_after")),
    )
    return _scatter(dots, axes, "Likeness of every example to its neighbours, and its loss") if dots else None


def quality_chart(turn: Turn) -> Markup | None:
    """Draw a histogram of the model's own judgements of its examples."""
    counts = quality_histogram([row.quality for row in turn.signals if row.quality is not None])
    if not any(counts):
        return None
    heights = svg.ticks(0, max(counts))
    scale_x, scale_y = Scale(0, 10, LEFT, RIGHT), Scale(0, heights[-1], 220, TOP)
    shapes = [svg.text(LEFT, 12, "examples", "note"), svg.text(RIGHT, 262, "quality, 0 to 10", "note end")]
    shapes += _grid((heights, scale_y), LEFT, RIGHT)
    shapes += [svg.text(scale_x(x), 240, f"{x}", "tick middle") for x in range(0, 11, 2)]
    for at, count in enumerate(counts):
        low, high = (10 * edge / BINS for edge in (at, at + 1))
        shapes.append(
            _column(scale_x(low) + 1, scale_x(high) - 1, scale_y(count), 220, f"{low:g} to {high:g}: {count}")
        )
    shapes += _limit(turn.threshold("quality"), scale_x, TOP, 220)
    return svg.picture(270, "Quality of the examples in the model's own judgement", shapes)


def origin_chart(rounds: Mapping[str, Mapping[str, int]], kinds: Sequence[str]) -> Markup:
    """Draw the number of examples of each round by origin."""
    counts = svg.ticks(0, max((sum(counts.values()) for counts in rounds.values()), default=0))
    scale = Scale(0, counts[-1], LEFT, RIGHT - 60)
    bottom = 8 + 32 * len(rounds)
    shapes = [svg.text(scale(x), bottom + 16, f"{x:,.0f}", "tick middle") for x in counts]
    shapes += [svg.line(scale(x), 8, scale(x), bottom, "grid") for x in counts]
    for index, (name, parts) in enumerate(rounds.items()):
        shapes += _stack(name, parts, kinds, 12 + 32 * index, scale)
    return svg.picture(bottom + 24, "Examples of each round by what made them", shapes)


def round_chart(steps: Sequence[Step]) -> Markup:
    """Draw a measure of the base and of each round with its interval, and below it the paired difference of each turn."""
    levels = levels_of(steps)
    unit, factor = steps[0].row.unit, 100 if steps[0].row.unit == number_format.PER_CENT else 1
    ticks = svg.ticks(*_ends([bound for _, e in levels for bound in (e.low, e.high)], unit))
    scale_x, scale_y = Scale(-0.5, len(levels) - 0.5, LEFT, RIGHT), Scale(ticks[0], ticks[-1], 240, TOP)
    title = f"{steps[0].row.title}, {'per cent' if factor == 100 else unit}"
    shapes = [svg.text(LEFT, 12, title, "note")]
    for y, label in zip(ticks, svg.tick_labels([round(factor * tick, 8) for tick in ticks]), strict=True):
        shapes += [
            svg.line(LEFT, scale_y(y), RIGHT, scale_y(y), "grid"),
            svg.text(LEFT - 8, scale_y(y) + 4, label, "tick end"),
        ]
    shapes.append(svg.polyline([(x, e.value) for x, (_, e) in enumerate(levels)], scale_x, scale_y, "mean model-1"))
    for x, (name, level) in enumerate(levels):
        tip = f"{name}: {number_format.level(level, unit)}"
        shapes += [
            svg.line(scale_x(x), scale_y(level.low), scale_x(x), scale_y(level.high), "whisker"),
            svg.circle(scale_x(x), scale_y(level.value), "model-1", tip),
            svg.text(scale_x(x), 262, name, "label middle"),
        ]
    for x, step in enumerate(steps):
        shapes.append(svg.text(scale_x(x + 0.5), 282, number_format.change(step.row.difference, unit), "tick middle"))
    return svg.picture(294, f"{steps[0].row.title} of the base and of each round", shapes)


def _ends(bounds: Sequence[float], unit: str) -> tuple[float, float]:
    """Return the ends of an axis: shares begin at 0."""
    finite = [bound for bound in bounds if math.isfinite(bound)] or [0.0]
    return (0.0 if unit == number_format.PER_CENT else min(finite)), max(finite)


def set_shape(name: str, x: float, y: float) -> str:
    """Return the shape of a set's members around a position, as SVG path commands; that of the set `none` is small."""
    match name:
        case "low":
            return f"M{x - 4.5:g} {y - 4.5:g}h9v9h-9z"
        case "sparse":
            return f"M{x:g} {y - 6:g}l6 6l-6 6l-6-6z"
        case _:
            radius = 2.5 if name == "none" else 5
            return (
                f"M{x - radius:g} {y:g}a{radius} {radius} 0 1 0 {2 * radius} 0a{radius} {radius} 0 1 0-{2 * radius} 0z"
            )


def _dots(signals: Sequence[Signals], x: str, y: str) -> list[Dot]:
    """Return the examples that have both signals, members of a set last, so that they are drawn on top."""
    complete = [row for row in signals if getattr(row, x) is not None and getattr(row, y) is not None]
    complete = [row for row in complete if math.isfinite(getattr(row, x)) and math.isfinite(getattr(row, y))]
    rest = sorted((row for row in complete if shown_set(row) == "none"), key=lambda row: row.example)[:MOST]
    shown = rest + [row for row in complete if shown_set(row) != "none"]
    return [Dot(getattr(row, x), getattr(row, y), row) for row in shown]


def _scatter(dots: Sequence[Dot], axes: tuple[Axis, Axis], title: str, *, diagonal: bool = False) -> Markup:
    limits = tuple(axis.limit for axis in axes)
    ticks_x, ticks_y = (
        svg.ticks(min(values), max(values))
        for values in (
            [value for value in (*(dot.x for dot in dots), limits[0]) if value is not None],
            [value for value in (*(dot.y for dot in dots), limits[1]) if value is not None],
        )
    )
    scale_x, scale_y = Scale(ticks_x[0], ticks_x[-1], LEFT, RIGHT), Scale(ticks_y[0], ticks_y[-1], BOTTOM, TOP)
    shapes = [svg.text(LEFT, 12, f"{axes[1].words} ↑", "note"), svg.text(RIGHT, 342, f"{axes[0].words} →", "note end")]
    shapes += _grid((ticks_y, scale_y), LEFT, RIGHT)
    for x, label in zip(ticks_x, svg.tick_labels(ticks_x), strict=True):
        shapes += [
            svg.line(scale_x(x), TOP, scale_x(x), BOTTOM, "grid"),
            svg.text(scale_x(x), 320, label, "tick middle"),
        ]
    low, high = max(ticks_x[0], ticks_y[0]), min(ticks_x[-1], ticks_y[-1])
    if diagonal and low < high:
        shapes.append(svg.line(scale_x(low), scale_y(low), scale_x(high), scale_y(high), "zero"))
    shapes += _limit(limits[0], scale_x, TOP, BOTTOM)
    if limits[1] is not None:
        shapes.append(svg.line(LEFT, scale_y(limits[1]), RIGHT, scale_y(limits[1]), "margin"))
    shapes += [_mark(dot, scale_x(dot.x), scale_y(dot.y)) for dot in dots]
    return svg.picture(350, title, shapes)


def _grid(vertical: tuple[Sequence[float], Scale], left: float, right: float) -> Iterator[Markup]:
    ticks, scale = vertical
    for y, label in zip(ticks, svg.tick_labels(ticks), strict=True):
        yield svg.line(left, scale(y), right, scale(y), "grid")
        yield svg.text(left - 8, scale(y) + 4, label, "tick end")


def _limit(limit: float | None, scale: Scale, top: float, bottom: float) -> Iterator[Markup]:
    if limit is not None:
        yield svg.line(scale(limit), top, scale(limit), bottom, "margin")
        yield svg.text(scale(limit), top - 8, "limit", "note middle")


def _mark(dot: Dot, x: float, y: float) -> Markup:
    name = shown_set(dot.row)
    kind = f"set-{name}" + (" chosen" if dot.row.chosen else "")
    tip = f"{dot.row.example}: {number_format.number(dot.x)}, {number_format.number(dot.y)}"
    return svg.outline(set_shape(name, x, y), kind, tip)


def _column(left: float, right: float, top: float, bottom: float, tip: str) -> Markup:
    return svg.rect(left, top, round(right - left, 1), round(bottom - top, 1), "model-1", tip)


def _stack(name: str, parts: Mapping[str, int], kinds: Sequence[str], y: float, scale: Scale) -> Iterator[Markup]:
    yield svg.text(LEFT - 8, y + 16, name, "label end")
    done = 0
    for index, kind in enumerate(kinds):
        if count := parts.get(kind, 0):
            left, right = scale(done), scale(done + count)
            yield svg.rect(left, y, round(right - left, 1), 24, colour(index), f"{name}: {count:,} {kind}")
            done += count
    yield svg.text(scale(done) + 8, y + 16, f"{done:,}", "figure")
