"""SVG shapes with classes instead of colours, scales, and round numbers for axes."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

WIDTH = 720


@dataclass(frozen=True)
class Scale:
    """Maps data to pixels."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low)
        return round(self.start + share * (self.end - self.start), 1)


def picture(height: float, title: str, shapes: Sequence[Markup]) -> Markup:
    """Return an SVG image, `WIDTH` wide; it scales with the page."""
    frame = Markup('<svg viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>')
    return frame.format(WIDTH, round(height), title, Markup("\n").join(shapes))


def text(x: float, y: float, words: str, kind: str) -> Markup:
    """Return text whose base line begins (`kind` with `end`: ends) at (x, y)."""
    return Markup('<text x="{}" y="{}" class="{}">{}</text>').format(x, y, kind, words)


def line(x1: float, y1: float, x2: float, y2: float, kind: str) -> Markup:
    """Return a straight line."""
    return Markup('<line x1="{}" y1="{}" x2="{}" y2="{}" class="{}"/>').format(x1, y1, x2, y2, kind)


def circle(x: float, y: float, kind: str, tip: str) -> Markup:
    """Return a point with a tooltip."""
    return Markup('<circle cx="{}" cy="{}" r="5" class="{}"><title>{}</title></circle>').format(x, y, kind, tip)


def rect(x: float, y: float, width: float, height: float, kind: str, tip: str, *, radius: int | None = None) -> Markup:
    """Return a rectangle with a tooltip."""
    rounded = "" if radius is None else Markup(' rx="{}"').format(radius)
    frame = Markup('<rect x="{}" y="{}" width="{}" height="{}"{} class="{}"><title>{}</title></rect>')
    return frame.format(x, y, width, height, rounded, kind, tip)


def outline(commands: str, kind: str, tip: str) -> Markup:
    """Return a shape drawn by path commands, with a tooltip."""
    return Markup('<path d="{}" class="{}"><title>{}</title></path>').format(commands, kind, tip)


def polyline(points: Sequence[tuple[float, float]], scale_x: Scale, scale_y: Scale, kind: str) -> Markup:
    """Return a line through points of data."""
    pixels = " ".join(f"{scale_x(x)},{scale_y(y)}" for x, y in points)
    return Markup('<polyline points="{}" class="{}"/>').format(pixels, kind)


def ticks(low: float, high: float) -> list[float]:
    """Return about five round numbers; the outer ones enclose `low` and `high`."""
    rough = (high - low or abs(high) or 1.0) / 5
    power = 10 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(index * step, 10) for index in range(first, max(last, first + 1) + 1)]


def tick_labels(ticks: Sequence[float], *, signed: bool = False) -> list[str]:
    """Return the ticks as text, all with as many decimals as one of them needs."""
    decimals = max(len(f"{tick:g}".partition(".")[2]) for tick in ticks)
    return [f"{tick:{'+' if signed and tick else ''}.{decimals}f}".replace("-", "−") for tick in ticks]
