"""Group the records that were left out as copies with the record that was kept."""

from collections.abc import Sequence
from dataclasses import dataclass

from flows.project.data import connection


@dataclass(frozen=True)
class Member:
    """A record that was left out because it is similar to the kept one."""

    where: str
    reason: str
    """`duplicate` or `near-duplicate` if it is in the same split, `leak` if it is in another one."""
    similarity: str
    """The share of common three-word runs, `equal` for the same text, or `by embedding`."""
    text: str
    """The beginning of its last answer."""


@dataclass(frozen=True)
class Cluster:
    """A kept record and its copies."""

    where: str
    id: str
    """The split; empty if a later rule left the record out too."""
    split: str
    size: int
    """Number of copies."""
    text: str
    """Its last answer."""
    members: Sequence[Member]
    """The first of its copies."""


IS_COPY = "(starts_with(detail, 'the same as ') OR starts_with(detail, 'too like '))"
"""SQL condition for a record in `quarantine` that was left out because it is similar to another one, in its split or not."""
VIEWS = rf"""
CREATE TEMP VIEW copies AS
WITH parsed AS (
    SELECT "where", reason, record, starts_with(detail, 'the same as ') AS is_equal,
        CASE WHEN starts_with(detail, 'the same as ')
            THEN {{'twin': substr(detail, 13), 'likeness': 'equal'}}
            ELSE regexp_extract(detail, '^too like (.*) \((?:train|valid|test|gate)\)(?:, (?:similarity )?(.*))?$', ['twin', 'likeness'], 's')
        END AS parts
    FROM quarantine WHERE {IS_COPY}
), direct AS (SELECT * EXCLUDE (parts), parts.twin AS twin, parts.likeness AS likeness FROM parsed)
-- The twin of an equal record may itself be like a third one, which is then the one that was kept.
SELECT direct."where", direct.reason, direct.record, coalesce(other.likeness, direct.likeness) AS similarity,
    coalesce(other.twin, direct.twin) AS kept
FROM direct LEFT JOIN direct AS other ON direct.is_equal AND NOT other.is_equal AND other."where" = direct.twin;
CREATE TEMP VIEW clusters AS SELECT kept, count(*) AS size FROM copies GROUP BY kept;
"""
TOTALS = "SELECT count(*) AS clusters, coalesce(sum(size), 0)::BIGINT AS copies FROM clusters"
LARGEST = """
WITH largest AS (FROM clusters ORDER BY size DESC, kept LIMIT ?)
SELECT kept AS "where", coalesce(min(record.id), '') AS id, coalesce(min(record.split), '') AS split, size,
    coalesce(min(record.text), '') AS text
FROM largest LEFT JOIN (
    SELECT source, id, split, messages[-1].content AS text FROM examples
    UNION ALL SELECT source, id, 'benchmark', messages[-1].content FROM benchmark
    UNION ALL SELECT source, id, split, text FROM documents
) AS record ON record.source = kept
GROUP BY kept, size ORDER BY size DESC, kept
"""
MEMBERS = """SELECT "where", reason, similarity, record AS text FROM copies WHERE kept = ? ORDER BY "where" LIMIT ?"""


def largest(number: int, members: int) -> tuple[int, int, list[Cluster]]:
    """Return the numbers of clusters and of copies, and the largest clusters, each with the first `members` of its copies."""
    with connection.opened() as opened:
        opened.execute(VIEWS)
        ((clusters, copies),) = opened.execute(TOTALS).fetchall()
        rows = [(row, row["where"]) for row in connection.rows(opened, LARGEST, [number])]
        return (
            clusters,
            copies,
            [
                Cluster(**row, members=connection.records(opened, MEMBERS, Member, where, members))
                for row, where in rows
            ],
        )
