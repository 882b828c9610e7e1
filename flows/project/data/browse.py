"""Draw a sample of the data, and search its texts."""

from dataclasses import dataclass
from typing import Literal

import duckdb

from flows.project.data import connection

Kind = Literal["examples", "rounds", "benchmark", "documents", "quarantine"]
AROUND = 60
"""Number of characters of an excerpt on each side of a match."""


@dataclass(frozen=True)
class Drawn:
    """A record of a sample."""

    kind: Kind
    id: str
    """For a refused record, its place."""
    split: str
    """For an example of a round, the round; for a refused record, `refused`."""
    source: str
    about: str
    """The domain; for a refused record, the reason."""
    first: str
    """The prompt, the text of a document, or the detail of a refusal."""
    last: str
    """The response; empty for a document. For a refused record, its beginning."""


@dataclass(frozen=True)
class Match:
    """A text that contains the searched text."""

    kind: Kind
    id: str
    split: str
    source: str
    part: str
    """The role of the turn, `call of TOOL`, `rejected`, `tests`, `text`, or the reason of a refusal."""
    excerpt: str


CONVERSATION = """list_aggregate([turn.role || ': ' || turn.content FOR turn IN messages[:-2]], 'string_agg', chr(10)) AS first,
    messages[-1].content AS last"""
SELECTIONS = {
    "examples": f"SELECT 'examples' AS kind, id, split, source, domain AS about, {CONVERSATION} FROM examples",
    "rounds": f"SELECT 'rounds' AS kind, id, round_name AS split, source, domain AS about, {CONVERSATION} FROM rounds",
    "benchmark": f"SELECT 'benchmark' AS kind, id, split, source, domain AS about, {CONVERSATION} FROM benchmark",
    "documents": "SELECT 'documents' AS kind, id, split, source, domain AS about, text AS first, '' AS last FROM documents",
    "quarantine": """SELECT 'quarantine' AS kind, "where" AS id, 'refused' AS split, source, reason AS about, detail AS first,
        record AS last FROM quarantine""",
}


def sample(kind: Kind, number: int, seed: int, *, split: str | None, source: str | None) -> tuple[int, list[Drawn]]:
    """Return the number of records of a kind, and a random sample of them, which is the same for the same seed.

    `split` is a split, a round, or the reason of a refusal. `source` is a part of the source's name.
    """
    conditions = (
        "(? IS NULL OR split = ? OR (kind = 'quarantine' AND about = ?)) AND (? IS NULL OR contains(source, ?))"
    )
    chosen = f"SELECT * FROM ({SELECTIONS[kind]}) WHERE {conditions}"
    values = [split, split, split, source, source]
    with connection.opened() as opened:
        ((total,),) = opened.execute(f"SELECT count(*) FROM ({chosen})", values).fetchall()
        drawn = connection.rows(
            opened,
            f"{chosen} ORDER BY md5(concat(?, ' ', source, ' ', id)), source, id LIMIT ?",
            [*values, str(seed), number],
        )
    return total, [Drawn(**row | {"first": row["first"] or ""}) for row in drawn]


def search(text: str, number: int, *, is_regex: bool, kind: Kind | None) -> tuple[int, list[Match]]:
    """Return the number of texts that contain `text` in upper or lower case, and the first of them.

    Raises ValueError if it should be a regular expression (RE2) and is not.
    """
    pattern = f"(?is).{{0,{AROUND}}}(?:{text if is_regex else _escaped(text)}).{{0,{AROUND}}}"
    holds = "FROM texts WHERE regexp_matches(text, ?) AND (? IS NULL OR kind = ?)"
    values = [pattern, kind, kind]
    with connection.opened() as opened:
        try:
            ((total,),) = opened.execute(f"SELECT count(*) {holds}", values).fetchall()
            matches = connection.rows(
                opened,
                f"SELECT kind, id, split, source, part, text {holds} ORDER BY kind, source, id, part LIMIT ?",
                [*values, number],
            )
            excerpts = [_excerpt(opened, row.pop("text"), pattern) for row in matches]
        except duckdb.InvalidInputException as error:
            raise ValueError(f"{text!r} is not a regular expression: {connection.first_line(error)}") from None
    return total, [Match(**row, excerpt=excerpt) for row, excerpt in zip(matches, excerpts, strict=True)]


def _excerpt(opened: duckdb.DuckDBPyConnection, text: str, pattern: str) -> str:
    """Return the match of a pattern in a text whose secrets are already replaced; the beginning of the text if the match was in a secret."""
    ((excerpt,),) = opened.execute("SELECT regexp_extract(?, ?)", [text, pattern]).fetchall()
    return str(excerpt) or text[: 2 * AROUND]


def _escaped(text: str) -> str:
    """Return an RE2 pattern that matches only this text. RE2 has no escapes of characters beyond ASCII."""
    return "".join(
        f"\\{sign}" if sign.isascii() and not (sign.isalnum() or sign in "_ \n\t") else sign for sign in text
    )
