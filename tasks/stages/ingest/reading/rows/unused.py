"""Find the columns of a table, and the fields of its turns, that no example uses."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tasks.core.records import Unfit
from tasks.core.text import templates
from tasks.stages.ingest.config import Rows
from tasks.stages.ingest.reading.rows import preferences, tool_calls, turns
from tasks.stages.ingest.reading.rows.columns import usual
from tasks.stages.ingest.reading.rows.content_parts import expanded
from tasks.stages.ingest.reading.rows.conversations import SYSTEM, columns_of_shape

NOTHING: tuple[Any, ...] = (None, "", [], {})


def unused(rows: Sequence[Mapping[str, Any]], options: Rows) -> list[str]:
    """Return the columns that are not empty and that none of these rows uses, followed by fields of turns (`turn.weight`).

    Rows without a conversation are ignored.
    """
    named, used = dict[str, None](), set[str]()
    for row in rows:
        columns = _used(row, options)
        if not columns:
            continue
        used |= columns
        named |= columns_with_content([row])
        whole = columns.difference(SYSTEM, tool_calls.TOOLS) - _in_templates(options)
        fields = (field for name in whole for field in _fields(row.get(name)))
        named |= dict.fromkeys(f"turn.{field}" for field in fields if field not in {*turns.READ, options.reasoning})
    return sorted((name for name in named if name not in used), key=lambda name: name.startswith("turn."))


def columns_with_content(rows: Sequence[Mapping[str, Any]]) -> dict[str, None]:
    """Return the columns that are not empty in at least one of these rows, in their order."""
    return dict.fromkeys(name for row in rows for name, value in row.items() if value not in NOTHING)


def _used(row: Mapping[str, Any], options: Rows) -> set[str]:
    """Return the columns that the example of a row uses, and those that settings name."""
    check = options.check.model_dump().values() if options.check else ()
    settings = [
        options.group,
        options.weights,
        options.task_by,
        options.reasoning,
        options.split_by,
        options.thread and options.thread.by,
        *check,
    ]
    others = {name for name in settings if isinstance(name, str)} | {*tool_calls.TOOLS, "label", preferences.TAG}
    if options.columns is not None:
        values = options.columns.model_dump(exclude_none=True).values()
        if all(templates.columns_of(value) <= row.keys() for value in values):
            return {name for value in values for name in row if _names(value, name)} | {*SYSTEM} | others
    named = usual(row, options.columns)
    if isinstance(named, Unfit):
        return set()
    shape = (options.check.reshaped(named) if options.check else set[str]()) or columns_of_shape(named)
    return shape | others if shape else shape


def _in_templates(options: Rows) -> set[str]:
    """Return the columns that templates of the settings refer to."""
    values = options.columns.model_dump(exclude_none=True).values() if options.columns else ()
    return {name for value in values if templates.is_template(value) for name in templates.columns_of(value)}


def _names(setting: str, name: str) -> bool:
    """Return True if a setting of `columns` names a column: as a whole, as a variable of its template, or as `row["name"]`."""
    return name in templates.columns_of(setting) or (
        templates.is_template(setting) and any(f"{mark}{name}{mark}" in setting for mark in "\"'")
    )


def _fields(value: Any) -> Iterator[str]:
    """Yield the fields that are not empty of the turns in a column."""
    for turn in value if isinstance(value, list) else ():
        for each in expanded(turn):
            if isinstance(each, Mapping):
                yield from (field for field, content in each.items() if content not in NOTHING)
