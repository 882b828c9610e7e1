"""Count the tables that stage `ingest` wrote, by DuckDB: splits, domains, licences, reasons of refusal."""

from collections.abc import Iterator, Mapping, Sequence
from math import sqrt
from pathlib import Path
from typing import Any

import duckdb

from tasks.core.records import Split

PRETRAINING = (
    "Packages and texts that are published may be part of what the base model was trained on, "
    "so its own figures on them may be too good; what counts is the difference between two models on the same items."
)

QUERIES = {
    "splits": 'SELECT split AS name, count(*) AS examples, count(DISTINCT "group") AS groups FROM examples GROUP BY ALL',
    "domains": "SELECT domain AS name, count(*) AS examples, count(*) FILTER (split = 'train') AS train,"
    " count(*) FILTER (split = 'valid') AS valid, count(*) FILTER (split = 'test') AS test,"
    " count(*) FILTER (split = 'gate') AS gate FROM examples GROUP BY ALL",
    "tasks": "SELECT task AS name, count(*) AS examples, count(*) FILTER (split = 'train') AS train,"
    " count(*) FILTER (split = 'test') AS test FROM examples GROUP BY ALL",
    "licenses": "SELECT license AS name, count(*) AS examples FROM examples GROUP BY ALL",
    "tiers": "SELECT coalesce(tier, 'none') AS name, count(*) AS examples,"
    " count(*) FILTER (split = 'test') AS test FROM examples GROUP BY ALL",
    "corpora": "SELECT domain || ' ' || split AS name, count(*) AS documents, count(DISTINCT \"group\") AS groups,"
    " sum(length(text))::BIGINT AS chars FROM documents GROUP BY ALL",
    "corpus_licenses": "SELECT license AS name, count(*) AS documents FROM documents GROUP BY ALL",
    "dropped": "SELECT reason AS name, count(*) AS records FROM quarantine GROUP BY ALL",
}


MEMORY = "1GB"
"""Memory limit of DuckDB; beyond it, groups are spilled to disk."""


def count_tables(
    examples: Sequence[Path], documents: Sequence[Path], quarantine: Path, scratch: Path
) -> dict[str, dict[str, Any]]:
    """Return the result of each query, as rows by name. The tables are Parquet files."""
    settings: dict[str, Any] = {"memory_limit": MEMORY, "temp_directory": str(scratch)}
    with duckdb.connect(config=settings) as connection:
        for name, paths in {"examples": examples, "documents": documents, "quarantine": [quarantine]}.items():
            connection.read_parquet([str(path) for path in paths]).create_view(name)
        return {title: _rows(connection, f"SELECT * FROM ({query}) ORDER BY name") for title, query in QUERIES.items()}


def thin_tasks(tasks: Mapping[str, Mapping[str, int]]) -> Iterator[str]:
    """Yield a sentence for each task without training examples or without test examples, if there are several tasks."""
    for name, row in tasks.items() if len(tasks) > 1 else ():
        few = "one example" if row["examples"] == 1 else f"{row['examples']} examples"
        if not row["train"]:
            yield f"Task {name} has {few}, none of which trains: its figures show only what other tasks teach. Add more examples of it."
        elif not row["test"]:
            yield f"Task {name} has {few}, none of which is held out for test: nothing measures it. Add more examples of it."


def shares(splits: Mapping[str, Mapping[str, int]], asked: Mapping[Split, float]) -> dict[str, dict[str, float]]:
    """Return, for each split with a share, the share asked for and its actual shares of examples and of groups, rounded.

    `splits` are the numbers of examples and groups of each split. `deviation` is the standard deviation of the share of groups if the split
    follows from their names. A share that differs by more than a few deviations has drifted.
    """
    totals = {unit: sum(row[unit] for row in splits.values()) for unit in ("examples", "groups")}
    if not totals["groups"]:
        return {}
    return {
        split: {
            "asked": share,
            **{unit: round(splits.get(split, {}).get(unit, 0) / total, 4) for unit, total in totals.items()},
            "deviation": round(sqrt(share * (1 - share) / totals["groups"]), 4),
        }
        for split, share in asked.items()
        if share
    }


def _rows(connection: duckdb.DuckDBPyConnection, query: str) -> dict[str, Any]:
    """Return the rows by name; a row with one figure is returned as that figure."""
    result = connection.execute(query)
    columns = [column[0] for column in result.description or ()][1:]
    rows = {name: dict(zip(columns, values, strict=True)) for name, *values in result.fetchall()}
    return {name: row if len(row) > 1 else next(iter(row.values())) for name, row in rows.items()}
