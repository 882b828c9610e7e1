"""A parallel coordinates plot: an axis for each setting of a sweep, the figure at the right, and a line for each point."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tasks.stages.report.render.grammar import Chart, chart, field, layer

MOST_LABELS = 8
"""Most values that are written on a numeric axis. If there are more, only the smallest and the largest are written."""


@dataclass(frozen=True)
class Dimension:
    """One of the axes."""

    name: str
    values: Sequence[Any]
    """The value of each line."""
    is_logarithmic: bool = False
    is_reversed: bool = False
    """True if lower is better; low values are then at the top."""


@dataclass(frozen=True)
class Scale:
    """The heights of values on an axis, from 0 to 1."""

    dimension: Dimension

    def height(self, value: Any) -> float | None:
        """Return the height of a value; None for one that is not finite."""
        if not self._is_numeric:
            return self._place(self._words.index(str(value)), 0, len(self._words) - 1)
        if not math.isfinite(value):
            return None
        low, high = min(self._finite), max(self._finite)
        if self.dimension.is_logarithmic and low > 0:
            value, low, high = math.log(value), math.log(low), math.log(high)
        return self._place(value, low, high)

    def labels(self) -> list[tuple[float, str]]:
        """Return the heights and texts of the values that are written on the axis."""
        values: Sequence[Any] = sorted(set(self._finite)) if self._is_numeric else self._words
        shown = values if len(values) <= MOST_LABELS or not self._is_numeric else [values[0], values[-1]]
        return [(height, self.text(value)) for value in shown if (height := self.height(value)) is not None]

    def text(self, value: Any) -> str:
        """Return a value as text."""
        return f"{value:.6g}" if isinstance(value, int | float) and not isinstance(value, bool) else str(value)

    def _place(self, value: float, low: float, high: float) -> float:
        height = (value - low) / (high - low) if high > low else 0.5
        return 1 - height if self.dimension.is_reversed else height

    @property
    def _is_numeric(self) -> bool:
        return all(isinstance(value, int | float) and not isinstance(value, bool) for value in self.dimension.values)

    @property
    def _finite(self) -> list[float]:
        return [value for value in self.dimension.values if math.isfinite(value)]

    @property
    def _words(self) -> list[str]:
        return list(dict.fromkeys(map(str, self.dimension.values)))


def parallel_coordinates(dimensions: Sequence[Dimension], best: int | None, title: str) -> Chart:
    """Draw a line for each point through all dimensions. The line of point number `best` is strong and solid; the others are dashed.

    A line ends before the axis on which its value is not finite, such as the loss of a training that diverged.
    """
    scales = [Scale(dimension) for dimension in dimensions]
    names = [dimension.name for dimension in dimensions]
    rows = [
        {
            "point": number,
            "axis": scale.dimension.name,
            "at": height,
            "tip": "; ".join(
                f"{other.dimension.name} {other.text(other.dimension.values[number])}" for other in scales
            ),
        }
        for number in range(len(dimensions[0].values))
        for scale in scales
        if (height := scale.height(scale.dimension.values[number])) is not None
    ]
    x = field(
        "axis",
        "nominal",
        sort=names,
        axis={"title": None, "labelColor": "var(--text)", "labelAngle": 0, "orient": "top"},
    )
    y = field("at", scale={"domain": [0, 1]}, axis=None)
    lines = {"x": x, "y": y, "detail": field("point", "nominal")}
    labels = [{"axis": s.dimension.name, "at": at, "text": text} for s in scales for at, text in s.labels()]
    ends = [{"axis": name, "at": 0, "to": 1} for name in names]
    chosen = [row for row in rows if row["point"] == best]
    others = [row for row in rows if row["point"] != best]
    layers = [
        layer("rule", ends, {"x": x, "y": y, "y2": {"field": "to"}}, color="var(--line)", strokeWidth=2),
        layer("line", others, lines, color="var(--muted)", strokeDash=[5, 3], strokeWidth=1.25, opacity=0.7),
        layer("line", chosen, lines, color="var(--good)", strokeWidth=3),
        layer("point", others, lines, color="var(--muted)", filled=True, size=45, opacity=1),
        layer("point", chosen, lines, color="var(--good)", filled=True, size=90, opacity=1),
        layer("text", labels, {"x": x, "y": y, "text": field("text", "nominal")}, align="left", dx=9, dy=-7),
    ]
    return chart(title, 360, [one for one in layers if one["data"]["values"]])
