"""Read the loss weights of a response's characters from the user's column."""

import json
import math
from collections.abc import Mapping
from typing import Any

from tasks.core.records import Unfit
from tasks.stages.ingest.reading import cleaning
from tasks.stages.ingest.reading.rows.conversations import raw_response

REASON = "weights do not fit"


def loss_weights(row: Mapping[str, Any], column: str) -> list[float] | Unfit | None:
    """Return the loss weight of each character of the cleaned response, or None if the column is empty.

    The column holds a list of numbers, one for each character of the last message as written in the file (in a CSV as JSON).
    """
    value = row.get(column)
    if value is None or value == "":
        return None
    weights = _weights(value)
    if weights is None:
        return Unfit(REASON, f"column {column!r} holds no list of finite numbers from 0 up")
    raw = raw_response(row)
    if len(weights) != len(raw):
        return Unfit(REASON, f"column {column!r} has {len(weights)} weights for {len(raw)} characters")
    cleaned = cleaning.clean(raw)
    start = raw.find(cleaned)
    if start < 0:
        return Unfit(REASON, "the response is not in composed form with plain line ends, so its characters would move")
    return weights[start : start + len(cleaned)]


def _weights(value: Any) -> list[float] | None:
    """Return the value parsed as weights; None if it is anything else."""
    try:
        parsed = json.loads(value) if isinstance(value, str) else value
        weights = [float(number) for number in parsed]
    except (TypeError, ValueError, OverflowError, RecursionError):
        return None
    return weights if all(math.isfinite(weight) and weight >= 0 for weight in weights) else None
