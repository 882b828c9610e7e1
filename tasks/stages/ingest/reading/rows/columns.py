"""Rename the columns of a row as the settings say, so that it has one of the usual shapes."""

import json
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from tasks.core.records import Unfit
from tasks.core.text import templates
from tasks.stages.ingest.columns_config import Columns
from tasks.stages.ingest.reading.rows.conversations import EXTRAS, HISTORY, TURNS

NESTED = (*TURNS, HISTORY, "chosen", "rejected", "tools")
"""Columns that hold lists. Tables that cannot nest hold them as JSON."""
USUAL = frozenset({
    *TURNS, *EXTRAS, HISTORY, "prompt", "completion", "response", "instruction", "output", "question", "answer", "correct",
})  # fmt: skip
"""Columns that define a conversation. They are dropped if settings name other columns, which they would contradict."""
LABEL = "label"
"""The column of a judgement of the answer, unless the settings use it as part of the conversation."""
TARGETS = {"prompt": "prompt", "response": "completion", "messages": "messages", "rejected": "rejected"}
"""The setting and the usual name of its column."""


def usual(row: Mapping[str, Any], columns: Columns | None) -> Mapping[str, Any] | Unfit:
    """Return the row with the usual names of columns, or the reason why it does not fit the settings. Other columns stay."""
    settings = columns.model_dump(exclude_none=True) if columns else {}
    if not settings or missing(row, settings):
        return _decoded(row)
    try:
        values = {TARGETS[name]: _content(templates.rendered(value, row)) for name, value in settings.items()}
    except ValueError as error:
        return Unfit("columns do not fit", str(error))
    if "rejected" in values:
        values["chosen"] = values.pop("completion")
    is_used = any(LABEL in templates.columns_of(value) for value in settings.values())
    dropped = USUAL | {LABEL} if is_used else USUAL
    return _decoded({name: value for name, value in row.items() if name not in dropped} | values)


def missing(row: Mapping[str, Any], settings: Mapping[str, str]) -> set[str]:
    """Return the columns that settings name, directly or in a template, but that a row lacks."""
    return set().union(*map(templates.columns_of, settings.values())) - row.keys()


def _content(value: Any) -> Any:
    """Return a number or a boolean as text; any other value unchanged."""
    return str(value) if isinstance(value, bool | int | float | Decimal) else value


def _decoded(row: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the row with its lists parsed from JSON."""
    lists = {}
    for name in NESTED:
        value = row.get(name)
        if isinstance(value, str) and value.lstrip()[:1] == "[":
            try:
                lists[name] = json.loads(value)
            except (ValueError, RecursionError):
                continue  # stays a text, which is refused later
    return {**row, **lists} if lists else row
