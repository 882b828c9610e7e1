"""Rows for guesses of their columns, and the example that a guess makes of a row."""

from tasks.io.sources.record import Row
from tasks.stages.ingest.config import File
from tasks.stages.ingest.reading.examples import example_from_row
from tasks.stages.ingest.reading.guesses.table import guess


def read(row, answer):
    """The example, or the refusal, that a row is with the columns of a guess."""
    source = File.model_validate({"from": "file", "path": "a.jsonl", "columns": dict(answer.columns)})
    return example_from_row(Row("line 1", row), "a", source, "d")


def guessed(**columns):
    """The guess for nine rows of these columns: values, or functions of the row's number."""
    return guess([{name: value(n) if callable(value) else value for name, value in columns.items()} for n in range(9)])
