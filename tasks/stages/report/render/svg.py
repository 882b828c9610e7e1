"""What charts are made of: SVG with classes instead of colours, scales, and round numbers for axes."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

WIDTH = 720


@dataclass(frozen=True)
class Scale:
    """Data to pixels."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low)
        return round(self.start + share * (self.end - self.start), 1)


def picture(height: float, title: str, shapes: Sequence[Markup]) -> Markup:
    """The whole, `WIDTH` wide; it scales with the page."""
    frame = Markup('<svg viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>')
    return frame.format(WIDTH, round(height), title, Markup("\n").join(shapes))


def text(x: float, y: float, words: str, kind: str) -> Markup:
    """Words whose base line begins (`kind` with `end`: ends) there."""
    return Markup('<text x="{}" y="{}" class="{}">{}</text>').format(x, y, kind, words)


def line(x1: float, y1: float, x2: float, y2: float, kind: str) -> Markup:
    """A straight line."""
    return Markup('<line x1="{}" y1="{}" x2="{}" y2="{}" class="{}"/>').format(x1, y1, x2, y2, kind)


def circle(x: float, y: float, kind: str, tip: str) -> Markup:
    """A point that says what it is where a pointer rests on it."""
    return Markup('<circle cx="{}" cy="{}" r="5" class="{}"><title>{}</title></circle>').format(x, y, kind, tip)


def path(points: Sequence[tuple[float, float]], scale_x: Scale, scale_y: Scale, kind: str) -> Markup:
    """A line through points of data."""
    places = " ".join(f"{scale_x(x)},{scale_y(y)}" for x, y in points)
    return Markup('<polyline points="{}" class="{}"/>').format(places, kind)


def ticks(low: float, high: float) -> list[float]:
    """About five round numbers; the outer ones enclose `low` and `high`."""
    rough = (high - low or abs(high) or 1.0) / 5
    power = 10 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(index * step, 10) for index in range(first, max(last, first + 1) + 1)]


def labels(ticks: Sequence[float], *, signed: bool = False) -> list[str]:
    """The ticks as text, all with as many decimals as one of them needs."""
    decimals = max(len(f"{tick:g}".partition(".")[2]) for tick in ticks)
    return [f"{tick:{'+' if signed and tick else ''}.{decimals}f}".replace("-", "−") for tick in ticks]
