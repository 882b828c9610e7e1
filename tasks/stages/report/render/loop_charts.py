"""Charts of a turn of the loop: the signals of every example, and the origins of each round's examples.

A set has a colour and a shape. Chosen examples are filled; members of a set that were not chosen are hollow.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tasks.core.records import Signals
from tasks.stages.report import number_format
from tasks.stages.report.data.loop import BINS, SETS, Step, Turn, levels_of, quality_histogram, shown_set
from tasks.stages.report.render.grammar import (
    ZOOM,
    Chart,
    Spec,
    axis,
    chart,
    colour_number,
    field,
    layer,
    rule,
    word,
)

MOST = 1_500
"""Most examples without a set that are drawn; more would hide the others."""
LOOKS = {
    "too hard": ("circle", "var(--model-4)"),
    "of low quality": ("square", "var(--model-3)"),
    "alone": ("diamond", "var(--model-1)"),
    "the others": ("circle", "var(--model-0)"),
}
"""Name of a set in text → its shape and colour."""
SHOWN_SETS = SETS | {"none": "the others"}


@dataclass(frozen=True)
class Axis:
    """The label of an axis, and the limit beyond which an example belongs to a set."""

    words: str
    limit: float | None


def loss_map(turn: Turn) -> Chart | None:
    """Draw the data map: loss after the training over loss before it. For points below the diagonal the loss fell."""
    dots = _dots(turn.signals, "loss_before", "loss_after")
    axes = (
        Axis("loss before the training, nats per token", turn.threshold("loss_before")),
        Axis("loss after it", turn.threshold("loss_after")),
    )
    return _scatter(dots, axes, "Loss of every example before and after the training", diagonal=True) if dots else None


def neighbour_map(turn: Turn) -> Chart | None:
    """Draw the neighbourhood map: loss after the training over similarity to the nearest prompts. Outliers are at the left."""
    dots = _dots(turn.signals, "neighbour_similarity", "loss_after")
    axes = (
        Axis("mean cosine to the nearest prompts", turn.threshold("neighbour_similarity")),
        Axis("loss after the training, nats per token", turn.threshold("loss_after")),
    )
    return _scatter(dots, axes, "Likeness of every example to its neighbours, and its loss") if dots else None


def quality_chart(turn: Turn) -> Chart | None:
    """Draw a histogram of the quality scores that the model gave to its examples."""
    counts = quality_histogram([row.quality for row in turn.signals if row.quality is not None])
    if not any(counts):
        return None
    edges = [(10 * at / BINS, 10 * (at + 1) / BINS) for at in range(BINS)]
    rows = [
        {"low": low, "high": high, "examples": count, "tip": f"{low:g} to {high:g}: {count:,}"}
        for (low, high), count in zip(edges, counts, strict=True)
    ]
    place = {
        "x": field("low", axis=axis("quality, 0 to 10"), scale={"domain": [0, 10], "nice": False}),
        "x2": {"field": "high"},
        "y": field("examples", axis=axis("examples", tickMinStep=1)),
    }
    bars = layer("rect", rows, place | {"y2": {"datum": 0}}, color="var(--model-1)", stroke="var(--ground)")
    return chart(
        "Quality of the examples in the model's own judgement", 180, [bars, *_limit(turn.threshold("quality"))]
    )


def origin_chart(rounds: Mapping[str, Mapping[str, int]], kinds: Sequence[str]) -> Chart:
    """Draw the number of examples of each round by origin."""
    rows = [
        {
            "round": name,
            "origin": kind,
            "order": order,
            "examples": counts.get(kind, 0),
            "tip": f"{name}: {counts.get(kind, 0):,} {kind}",
        }
        for name, counts in rounds.items()
        for order, kind in enumerate(kinds)
    ]
    palette = [f"var(--model-{colour_number(index)})" for index in range(len(kinds))]
    place = {
        "y": field("round", "nominal", sort=None, axis={"title": None, "labelColor": "var(--text)"}),
        "x": field("examples", axis=axis("examples", format=",d", tickMinStep=1), stack="zero"),
        "color": field("origin", "nominal", scale={"domain": list(kinds), "range": palette}),
        "order": field("order"),
    }
    return chart("Examples of each round by what made them", 16 + 32 * len(rounds), [layer("bar", rows, place)])


def round_chart(steps: Sequence[Step], *, equally_long: bool = False) -> Chart:
    """Draw a measure of the base and of each round with its interval, and above each round the change by its turn.

    If the trainings of all rounds are `equally_long`, a band shows the first round's interval: the result of as many tokens of its examples
    alone.
    """
    row, levels = steps[0].row, levels_of(steps)
    changes = ["", *(number_format.change(step.row.difference, step.row.unit) for step in steps)]
    rows: list[dict[str, Any]] = [
        {
            "model": name,
            "value": level.value,
            "low": level.low,
            "high": level.high,
            "change": change.replace(" [", "\n["),
            "tip": f"{name}: {number_format.level(level, row.unit)}"
            + (f"; {change} to the one before" if change else ""),
        }
        for (name, level), change in zip(levels, changes, strict=True)
        if math.isfinite(level.value)
    ]
    bounded = [one for one in rows if math.isfinite(one["low"]) and math.isfinite(one["high"])]
    x = field("model", "nominal", sort=None, axis=axis(None, labelAngle=0, labelColor="var(--text)", grid=False))
    scale: dict[str, Any] = {"zero": row.unit == number_format.PER_CENT, "padding": 8}
    title = f"{row.title}, {'per cent' if row.unit == number_format.PER_CENT else row.unit}"
    y = field("value", axis=axis(title, row.unit, tickCount=5), scale=scale)
    interval = {"x": x, "y": {**y, "field": "low"}, "y2": {"field": "high"}}
    first = [one for one in bounded if equally_long and one["model"] == steps[0].after]
    band = {"y": {**y, "field": "low"}, "y2": {"field": "high"}}
    layers = [
        *([layer("rect", first, band, color="var(--model-1)", opacity=0.12)] if first and len(steps) > 1 else []),
        layer("line", [{"model": one["model"], "value": one["value"]} for one in rows], {"x": x, "y": y},
              color="var(--model-1)", strokeWidth=2),
        layer("rule", bounded, interval, color="var(--text)", opacity=0.7, strokeWidth=1.5),
        layer("point", rows, {"x": x, "y": y}, color="var(--model-1)", filled=True, size=90, opacity=1),
        layer("text", rows, {"x": x, "y": {"value": -18}, "text": field("change", "nominal")}, fontSize=11.5, lineBreak="\n"),
    ]  # fmt: skip
    return chart(f"{row.title} of the base and of each round", 220, layers)


def _dots(signals: Sequence[Signals], x: str, y: str) -> list[dict[str, Any]]:
    """Return the examples with both signals. Members of a set come last, so that they are drawn on top."""
    complete = [row for row in signals if getattr(row, x) is not None and getattr(row, y) is not None]
    complete = [row for row in complete if math.isfinite(getattr(row, x)) and math.isfinite(getattr(row, y))]
    others = sorted((row for row in complete if shown_set(row) == "none"), key=lambda row: row.example)[:MOST]
    return [
        {
            "x": getattr(row, x),
            "y": getattr(row, y),
            "set": SHOWN_SETS[shown_set(row)],
            "chosen": bool(row.chosen),
            "tip": f"{row.example}: {number_format.number(getattr(row, x))}, {number_format.number(getattr(row, y))}",
        }
        for row in others + [row for row in complete if shown_set(row) != "none"]
    ]


def _scatter(
    dots: Sequence[Mapping[str, Any]], axes: tuple[Axis, Axis], title: str, *, diagonal: bool = False
) -> Chart:
    sets = [name for name in SHOWN_SETS.values() if any(dot["set"] == name for dot in dots)]
    shapes, inks = ([LOOKS[name][part] for name in sets] for part in (0, 1))
    ink = field("set", "nominal", scale={"domain": sets, "range": inks})
    hollow = {"condition": {"test": "!datum.chosen", "value": "var(--ground)"}, **ink}
    place: Spec = {
        "x": field("x", axis=axis(axes[0].words, tickCount=6), scale={"zero": False, "padding": 10}),
        "y": field("y", axis=axis(axes[1].words, tickCount=6), scale={"zero": False, "padding": 10}),
        "stroke": ink,
        "fill": hollow,
        "shape": field("set", "nominal", scale={"domain": sets, "range": shapes}),
    }
    layers = [layer("point", dots, place, size=55, strokeWidth=1.5, opacity=0.9) | {"params": [ZOOM]}]
    low = max(min(dot[side] for dot in dots) for side in ("x", "y"))
    high = min(max(dot[side] for dot in dots) for side in ("x", "y"))
    if diagonal and low < high:
        ends = [{"x": low, "y": low}, {"x": high, "y": high}]
        layers.append(layer("line", ends, {"x": field("x"), "y": field("y")}, color="var(--muted)", strokeWidth=1))
    layers += _limit(axes[0].limit)
    if axes[1].limit is not None:
        layers.append(rule("y", axes[1].limit, dashed=True))
    return chart(title, 300, layers)


def _limit(limit: float | None) -> list[Spec]:
    """Return a dashed line at a limit of `x`, and the word `limit` above the plot."""
    return [] if limit is None else [rule("x", limit, dashed=True), word("x", limit, "limit")]
