"""What a training gained in its domain and forgot elsewhere, checkpoint by checkpoint."""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple


class Point(NamedTuple):
    """A checkpoint: by how much the losses differ from those before training, in nats per token."""

    tokens: int
    """Trained until then."""
    domain: float
    """Below zero is gained."""
    general: float
    """Above zero is forgotten."""


def trace(course: Mapping[str, Any]) -> list[Point]:
    """The checkpoints of a course that measured both losses, the start first; none of another course.

    A checkpoint at which a loss was no number is left out.
    """
    measured = course.get("measured", {})
    if not measured.keys() >= {"domain", "general"}:
        return []
    domain, general = measured["domain"], measured["general"]
    points = [
        Point(tokens, round(here - domain[0][1], 6), round(elsewhere - general[0][1], 6))
        for (tokens, here), (_, elsewhere) in zip(domain, general, strict=True)
    ]
    return [point for point in points if all(map(math.isfinite, point))]
