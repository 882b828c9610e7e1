"""`ratchet data sql`."""

from typing import Annotated

import typer

from flows.commands._reports import Report


def sql(
    query: Annotated[str, typer.Argument(help="One SELECT.")],
    number: Annotated[int, typer.Option("--rows", "-n", min=1, help="Rows to show.")] = 100,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object, for other programs.")] = False,
) -> Report:
    """Query the tables in SQL (DuckDB), read-only.

    Views: examples, benchmark, documents, quarantine, sensitive, rounds, signals, lineage, faults, results, decisions, and texts with a row
    for each text. No other file can be read, nothing is written, and no extension is loaded. Secrets are shown as [github-token].

    Example: ratchet data sql "SELECT reason, count(*) FROM quarantine GROUP BY reason"
    """
    from flows.commands import _terminal
    from flows.commands._data_reports import DataSqlReport
    from flows.project.data import sql

    answer = sql.run(query, number)
    if not as_json:
        _terminal.show_table([[_terminal.cell(str(value)) for value in row] for row in (answer.columns, *answer.rows)])
        if answer.more:
            _terminal.show(f"The first {number} rows; --rows shows more.")
    return DataSqlReport(answer.columns, answer.rows, answer.more)
