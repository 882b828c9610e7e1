"""Weights of a response's characters, from a column of the user's."""

import json
import math
from collections.abc import Mapping
from typing import Any

from tasks.core.records import Unfit
from tasks.stages.ingest import shapes, texts

REASON = "weights do not fit"


def weights(row: Mapping[str, Any], column: str) -> list[float] | Unfit | None:
    """The loss weight of each character of the row's response once that is cleaned; None where the column is empty.

    The column holds a list of numbers, one for each character of the last message as it stands in the file (in a CSV as JSON).
    """
    value = row.get(column)
    if value is None or value == "":
        return None
    numbers = _numbers(value)
    if numbers is None:
        return Unfit(REASON, f"column {column!r} holds no list of finite numbers from 0 up")
    raw = shapes.response(row)
    if len(numbers) != len(raw):
        return Unfit(REASON, f"column {column!r} has {len(numbers)} weights for {len(raw)} characters")
    kept = texts.clean(raw)
    start = raw.find(kept)
    if start < 0:
        return Unfit(REASON, "the response is not in composed form with plain line ends, so its characters would move")
    return numbers[start : start + len(kept)]


def _numbers(value: Any) -> list[float] | None:
    """The value as weights, or None where it is something else."""
    try:
        parsed = json.loads(value) if isinstance(value, str) else value
        numbers = [float(number) for number in parsed]
    except (TypeError, ValueError, OverflowError, RecursionError):
        return None
    return numbers if all(math.isfinite(number) and number >= 0 for number in numbers) else None
