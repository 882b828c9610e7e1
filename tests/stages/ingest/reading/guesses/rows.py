"""Rows for the guess of columns, and the example that a guess makes of a row."""

from tasks.io.sources.record import Row
from tasks.stages.ingest.config import File
from tasks.stages.ingest.reading.examples import example_from_row
from tasks.stages.ingest.reading.guesses.table import guess


def read(row, answer):
    """Return the example or the refusal of a row with the columns of a guess."""
    source = File.model_validate({"from": "file", "path": "a.jsonl", "columns": dict(answer.columns)})
    return example_from_row(Row("line 1", row), "a", source, "d")


def guessed(**columns):
    """Return the guess for nine rows of these columns, given as values or as functions of the row number."""
    return guess([{name: value(n) if callable(value) else value for name, value in columns.items()} for n in range(9)])
