"""Compare the data of two git revisions, through DVC's cache, or the examples of two rounds."""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb

from flows.execution.dvc import cache, lock_file
from flows.project.data import connection
from tasks.io.system import git

HERE = "workspace"
"""The name for the current files, in place of a revision."""
COMPARED = ("data/ingested", "data/rounds/r0/examples.parquet")
"""The outputs with the examples of a revision."""


@dataclass(frozen=True)
class Place:
    """A record that only one side has."""

    id: str
    split: str
    source: str
    parents: Sequence[str]
    """The examples from which a rewrite was made."""


@dataclass(frozen=True)
class Changed:
    """A place whose record has changed contents, and therefore another id."""

    source: str
    before: str
    after: str


@dataclass(frozen=True)
class Moved:
    """An example in another split."""

    id: str
    source: str
    before: str
    after: str


@dataclass(frozen=True)
class Numbers:
    """A count on both sides."""

    name: str
    before: int
    after: int


@dataclass(frozen=True)
class Totals:
    """Numbers of examples by the kind of difference."""

    before: int
    after: int
    same: int
    """Examples on both sides, in the same split."""
    added: int
    removed: int
    changed: int
    """Examples at a place that both sides have, with changed contents."""
    moved: int
    """Examples in another split."""


@dataclass(frozen=True)
class Difference:
    """The differences of two sets of examples. The lists contain only the first records."""

    before: str
    after: str
    totals: Totals
    splits: Sequence[Numbers]
    """Number of examples of each split. Rounds have only `train`."""
    reasons: Sequence[Numbers]
    """Number of refused records by reason; none for rounds, which share a quarantine."""
    added: Sequence[Place]
    removed: Sequence[Place]
    changed: Sequence[Changed]
    moved: Sequence[Moved]


PLACES = "SELECT source, min(id) AS id FROM {side} GROUP BY source HAVING count(*) = 1"
SETS = f"""
CREATE TABLE changed AS
    SELECT source, old.id AS before, new.id AS after
    FROM ({PLACES.format(side="old")}) AS old JOIN ({PLACES.format(side="new")}) AS new USING (source)
    WHERE old.id <> new.id AND old.id NOT IN (SELECT id FROM new) AND new.id NOT IN (SELECT id FROM old);
CREATE TABLE moved AS
    SELECT id, new.source AS source, old.split AS before, new.split AS after
    FROM old JOIN new USING (id) WHERE old.split <> new.split;
CREATE TABLE added AS FROM new WHERE id NOT IN (SELECT id FROM old) AND id NOT IN (SELECT after FROM changed);
CREATE TABLE removed AS FROM old WHERE id NOT IN (SELECT id FROM new) AND id NOT IN (SELECT before FROM changed);
"""
TOTALS = """SELECT (SELECT count(*) FROM old) AS before, (SELECT count(*) FROM new) AS after,
    (SELECT count(*) FROM old JOIN new USING (id, split)) AS same, (SELECT count(*) FROM added) AS added,
    (SELECT count(*) FROM removed) AS removed, (SELECT count(*) FROM changed) AS changed, (SELECT count(*) FROM moved) AS moved"""
SIZES = """SELECT coalesce(old.name, new.name) AS name, coalesce(old.n, 0) AS before, coalesce(new.n, 0) AS after
    FROM (SELECT {column} AS name, count(*) AS n FROM {old} GROUP BY name) AS old
    FULL JOIN (SELECT {column} AS name, count(*) AS n FROM {new} GROUP BY name) AS new USING (name) ORDER BY name"""


def compare(before: str, after: str, number: int) -> Difference:
    """Return the differences of two rounds, or of two git revisions. `workspace` stands for the current files.

    Raises ValueError if a name is neither, FileNotFoundError if DVC's cache lacks the data of a revision.
    """
    rounds = _rounds()
    if before in rounds and after in rounds:
        with connection.opened() as opened:
            for side, name in (("old", before), ("new", after)):
                chosen = f"SELECT id, 'train' AS split, source, parents FROM rounds WHERE round_name = '{name}'"
                opened.execute(f"CREATE VIEW {side} AS {chosen}")
            return _difference(opened, before, after, [], number)
    files = {name: _files(name, rounds) for name in sorted((before, after), key=rounds.__contains__)}
    with connection.opened_side_by_side({"old_data": files[before], "new_data": files[after]}) as opened:
        for side in ("old", "new"):
            opened.execute(f"CREATE VIEW {side} AS SELECT id, split, source, parents FROM {side}_data.examples")
        query = SIZES.format(column="reason", old="old_data.quarantine", new="new_data.quarantine")
        reasons = [Numbers(**row) for row in connection.rows(opened, query)]
        return _difference(opened, before, after, reasons, number)


def _difference(
    opened: duckdb.DuckDBPyConnection, before: str, after: str, reasons: Sequence[Numbers], number: int
) -> Difference:
    """Return the differences of the views `old` and `new`."""
    opened.execute(SETS)
    (totals,) = connection.rows(opened, TOTALS)

    def first(table: str, record: type[Any]) -> list[Any]:
        chosen = connection.rows(opened, f"FROM {table} ORDER BY source, {table}::VARCHAR LIMIT ?", [number])
        return [record(**row) for row in chosen]

    return Difference(
        before,
        after,
        Totals(**totals),
        [Numbers(**row) for row in connection.rows(opened, SIZES.format(column="split", old="old", new="new"))],
        reasons,
        first("added", Place),
        first("removed", Place),
        first("changed", Changed),
        first("moved", Moved),
    )


def _rounds() -> list[str]:
    """Return the rounds whose examples are in the workspace."""
    table = connection.TABLES["rounds"]
    return [columns["round_name"] for _, columns in connection.files_of(table, connection.files_here())]


def _files(name: str, rounds: Sequence[str]) -> Mapping[str, Path]:
    """Return the tables of a revision: path → file in DVC's cache."""
    if name == HERE:
        return connection.files_here()
    if name in rounds:
        raise ValueError(f"{name} is a round: name another round to compare it with. Rounds are: {', '.join(rounds)}.")
    try:
        lock = git.file_at(name, lock_file.PATH)
    except ValueError as error:
        names = [*rounds, HERE]
        near = difflib.get_close_matches(name, names, n=2)
        hint = f"Did you mean {' or '.join(near)}?" if near else f"Rounds are: {', '.join(rounds) or 'none'}."
        raise ValueError(
            f"{name!r} is neither a round nor a git revision with a {lock_file.PATH} ({error}). {hint}"
        ) from None
    outputs = [
        (path, digest)
        for entry in lock_file.parse(lock).values()
        for path, digest in ((out["path"], out.get("md5", "")) for out in entry.get("outs", []))
        if path in COMPARED
    ]
    return cache.files(dict(outputs))
