"""Run a user's query over the views: one read-only SELECT."""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb

from flows.project.data import connection
from flows.project.data.connection import TABLES

VIEWS = (*TABLES, "decisions", "texts")


@dataclass(frozen=True)
class Answer:
    """The rows of a query."""

    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]
    more: bool
    """True if the query has further rows."""


def run(query: str, limit: int) -> Answer:
    """Return the first rows of a query. Raises ValueError with one sentence if it is not a SELECT, or names an unknown table or column."""
    files = connection.files_here()
    with connection.opened() as opened:
        try:
            _check(opened, query, files)
            result = opened.execute(query)
            names = [column[0] for column in result.description or ()]
            rows = connection.without_secrets(result.fetchmany(limit + 1))
        except duckdb.Error as error:
            raise ValueError(f"The query failed: {connection.first_line(error)}") from None
    return Answer(names, rows[:limit], more=len(rows) > limit)


def _check(opened: duckdb.DuckDBPyConnection, query: str, files: Mapping[str, Path]) -> None:
    """Raise ValueError unless the text is one SELECT over existing tables."""
    statements = opened.extract_statements(query)
    if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
        kinds = ", ".join(statement.type.name for statement in statements) or "nothing"
        raise ValueError(f"The data are read only: expected one SELECT, found {kinds}.")
    for name in sorted(opened.get_table_names(query)):
        if name in TABLES and not any(connection.files_of(TABLES[name], files)):
            raise ValueError(
                f"There is no table {name!r} yet. Stage {TABLES[name].stage} makes it:\n  ratchet run {TABLES[name].stage}"
            )
        if name not in VIEWS:
            near = difflib.get_close_matches(name, VIEWS, n=2)
            hint = f"Did you mean {' or '.join(near)}?" if near else f"There are: {', '.join(VIEWS)}."
            raise ValueError(f"There is no table {name!r}. {hint}")
