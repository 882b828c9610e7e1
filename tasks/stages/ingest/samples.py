"""Draw samples of the effect of each rule: a few records that it refused, merged, redacted or reported, before and after."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import duckdb

from tasks.core.records import Refusal
from tasks.core.text.visible import excerpt
from tasks.io import columns, tables
from tasks.stages.ingest.quarantine import MERGED
from tasks.stages.ingest.screening import sensitive

FEW = 3
"""Most samples of a rule."""
DRAW = """
SELECT {rule}, arg_min({{{fields}}}, md5(concat_ws(chr(31), ?::TEXT, {columns})), {few})
FROM read_parquet(?) GROUP BY {rule} ORDER BY {rule}
"""
"""Selects, for each rule, the rows with the smallest seeded hash. One pass is enough for a table of any size, and equal tables give equal
rows."""
AFTER = {"redacted": "[{}]", "refused": "refused", "reported": "kept as it is, and reported"}
"""Action on a secret or on personal data → text after the action."""


def draw(ingested: Path, seed: int) -> list[dict[str, str]]:
    """Return the samples of the stage's tables in a folder, by rule: source, place, the text before, and the result.

    Texts are cut, and secrets and personal data in them are hidden.
    """
    with duckdb.connect() as connection:
        refusals = _drawn(connection, ingested / "quarantine.parquet", "reason", seed, *_REFUSAL)
        places = _drawn(connection, ingested / "sensitive.parquet", "rule", seed, *_SENSITIVE)
    return [*_of_refusals(refusals), *_of_places(places)]


_REFUSAL = ("source", "where", "detail", "record")
_SENSITIVE = ("source", "where", "part", "masked", "action")


def _drawn(
    connection: duckdb.DuckDBPyConnection, table: Path, rule: str, seed: int, *columns: str
) -> list[tuple[str, Mapping[str, Any]]]:
    names = [f'"{name}"' for name in columns]
    fields = ", ".join(f"{name}: {name}" for name in names)
    query = DRAW.format(rule=rule, fields=fields, columns=", ".join(names), few=FEW)
    drawn = connection.execute(query, [seed, str(table)]).fetchall()
    return [(name, row) for name, rows in drawn for row in rows]


def _of_refusals(rows: list[tuple[str, Mapping[str, Any]]]) -> Iterator[dict[str, str]]:
    refusals = [Refusal(row["source"], row["where"], rule, row["detail"], row["record"]) for rule, row in rows]
    hidden = sensitive.hide(columns.frame(refusals, Refusal), {"secret": "redact", "personal": "redact"})
    for refusal in tables.records(hidden, Refusal):
        became = "merged" if refusal.reason in MERGED else "refused"
        after = f"{became}: {excerpt(refusal.detail)}" if refusal.detail else became
        yield _sample(refusal.reason, refusal.source, refusal.where, excerpt(refusal.record), after)


def _of_places(rows: list[tuple[str, Mapping[str, Any]]]) -> Iterator[dict[str, str]]:
    for rule, row in rows:
        yield _sample(
            rule, row["source"], row["where"], f"{row['part']}: {row['masked']}", AFTER[row["action"]].format(rule)
        )


def _sample(rule: str, source: str, where: str, before: str, after: str) -> dict[str, str]:
    return {"rule": rule, "source": source, "where": where, "before": before, "after": after}
