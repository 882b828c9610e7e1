"""Collect everything about one record in the workspace: its source, its rewrites, the rounds and models that it trained, signals and results."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import duckdb

from flows.execution.dvc import graph_file
from flows.project.data import clusters, connection

Kind = Literal["example", "benchmark", "document", "proposal", "refused"]
LEAST_PREFIX = 4
"""Smallest number of characters of an abbreviated id."""


@dataclass(frozen=True)
class Part:
    """A text of a record."""

    role: str
    """The role of a turn, `call of TOOL`, `rejected`, `tests`, `text` or `proposal`; for a refused record, `beginning`."""
    text: str


@dataclass(frozen=True)
class Step:
    """A rewrite from which the record came, or that was made from it."""

    turn: str
    """The round that the turn created."""
    operator: str
    generator: str
    """Its author: a rule, a model or a person."""
    parents: Sequence[str]
    result: str
    """The id of the rewrite, or the id that a refused one would have had."""
    accepted: bool
    reason: str
    """The reason of the refusal."""


@dataclass(frozen=True)
class SignalValues:
    """The measurements of the record by the model that was trained on it."""

    turn: str
    """The round whose turn measured it."""
    loss_before: float | None
    """Loss of the response in nats per token, before and after the training."""
    loss_after: float | None
    neighbour_similarity: float | None
    quality: float | None
    flags: Sequence[str]
    excluded: str
    """The reason for having no signals; empty if there are any."""


@dataclass(frozen=True)
class ResultValue:
    """The result of a model on the record. Results on the gate set are not shown."""

    model: str
    measure: str
    value: float
    """For a loss, nats per token; otherwise 0 to 1."""
    outcome: str
    output: str


@dataclass(frozen=True)
class LeftOut:
    """A record that ingest left out, with the reason."""

    source: str
    where: str
    reason: str
    detail: str
    """For a duplicate, the record to which it is similar, and the similarity."""


@dataclass(frozen=True)
class Sensitive:
    """A place in the record with a secret or personal data, which are not shown."""

    part: str
    """The role of a turn, `call of TOOL`, `tools`, `rejected`, `tests` or `text`."""
    kind: str
    rule: str
    masked: str
    """The first characters, and the length."""
    action: str
    """`reported`, `redacted` or `refused`."""


@dataclass(frozen=True)
class ReviewDecision:
    """A person's decision on the record."""

    decision: str
    author: str
    reason: str


@dataclass(frozen=True)
class Shown:
    """All that is known of one record."""

    id: str
    kind: Kind
    source: str
    """The place from which it came."""
    license: str
    domain: str
    group: str
    """The unit that stays in one split."""
    split: str
    """The split; empty for a refused record."""
    task: str
    round: int
    """0 for a record that was read, otherwise the number of the turn that made it."""
    parents: Sequence[str]
    parts: Sequence[Part]
    rounds: Sequence[str]
    """The rounds whose training examples include it."""
    models: Sequence[str]
    """The models of params.yaml that are trained on these rounds. `tune.max_tokens` may leave some examples out of a training."""
    merged: Sequence[LeftOut]
    """The records that were left out because they are similar to this one, in its split or as a leak."""
    refused: Sequence[LeftOut]
    """The refusals of the record itself, one for each reason."""
    sensitive: Sequence[Sensitive]
    lineage: Sequence[Step]
    signals: Sequence[SignalValues]
    results: Sequence[ResultValue]
    decisions: Sequence[ReviewDecision]


IDS = " UNION ALL ".join(
    f"SELECT id FROM {view}" for view in ("examples", "rounds", "benchmark", "documents", "lineage", "quarantine")
)
FACTS: dict[Kind, str] = {
    "example": """SELECT * EXCLUDE (round_name) FROM (FROM rounds UNION ALL BY NAME FROM examples) WHERE id = ?
        ORDER BY round_name NULLS FIRST LIMIT 1""",
    "benchmark": "FROM benchmark WHERE id = ? LIMIT 1",
    "document": "FROM documents WHERE id = ? LIMIT 1",
    "proposal": "FROM lineage WHERE id = ? ORDER BY turn LIMIT 1",
    "refused": 'FROM quarantine WHERE id = ? ORDER BY source, "where" LIMIT 1',
}
ROUNDS = "SELECT DISTINCT round_name FROM rounds WHERE id = ? ORDER BY length(round_name), round_name"
COPIES = f"""SELECT source, "where", reason, detail FROM quarantine WHERE {clusters.IS_COPY}
    AND (ends_with(detail, ' ' || ?) OR contains(detail, ' ' || ? || ' ')) ORDER BY source, "where" """
REFUSED = 'SELECT source, "where", reason, detail FROM quarantine WHERE id = ? ORDER BY source, "where"'
SENSITIVE = 'SELECT part, kind, rule, masked, action FROM sensitive WHERE "where" = ? ORDER BY part, rule, masked'
LINEAGE = """SELECT turn, operator, generator, parents, id AS result, accepted, reason FROM lineage
    WHERE id = ? OR list_contains(parents, ?) ORDER BY length(turn), turn, id"""
SIGNALS = """SELECT turn, loss_before, loss_after, neighbour_similarity, quality, flags, excluded FROM signals
    WHERE example = ? ORDER BY length(turn), turn"""
RESULTS = """SELECT model, measure, CASE WHEN outcome = '' AND tokens > 0 THEN value / tokens ELSE value END AS value, outcome, output
    FROM results WHERE item = ? ORDER BY model_group, model, measure"""
DECISIONS = "SELECT decision, author, reason FROM decisions WHERE id = ?"


def show(name: str) -> Shown:
    """Return everything about a record, given its id or a prefix of it. Raises ValueError with near matches if there is none."""
    with connection.opened() as opened:
        identity = _identity(opened, name)
        kind, facts = _facts(opened, identity)
        rounds = [round for (round,) in opened.execute(ROUNDS, [identity]).fetchall()]
        source = str(facts.get("source", ""))
        copies = connection.records(opened, COPIES, LeftOut, source, source) if source else []
        return Shown(
            id=identity,
            kind=kind,
            source=source,
            license=facts.get("license", ""),
            domain=facts.get("domain", ""),
            group=facts.get("group", ""),
            split=facts.get("split", ""),
            task=facts.get("task", ""),
            round=facts.get("round", 0),
            parents=facts.get("parents", []),
            parts=list(_parts(facts)),
            rounds=rounds,
            models=_models(rounds),
            merged=copies,
            refused=[left for left in connection.records(opened, REFUSED, LeftOut, identity) if left not in copies],
            sensitive=connection.records(opened, SENSITIVE, Sensitive, facts.get("where", source)) if source else [],
            lineage=connection.records(opened, LINEAGE, Step, identity, identity),
            signals=connection.records(opened, SIGNALS, SignalValues, identity),
            results=connection.records(opened, RESULTS, ResultValue, identity),
            decisions=connection.records(opened, DECISIONS, ReviewDecision, identity),
        )


def _identity(opened: duckdb.DuckDBPyConnection, name: str) -> str:
    """Return the only id that begins with `name`."""
    if not name:
        raise ValueError("The id is empty. `ratchet data sample` shows some.")
    if _ids(opened, "id = ?", name):
        return name
    begun = _ids(opened, "starts_with(id, ?)", name) if len(name) >= LEAST_PREFIX else []
    if len(begun) == 1:
        return begun[0]
    if begun:
        raise ValueError(f"Several ids begin with {name!r}: {', '.join(begun[:3])}, … Give a longer part of the id.")
    near = _ids(opened, "levenshtein(id, ?) <= 3", name)
    hint = (
        f"Did you mean {' or '.join(near)}?"
        if near
        else "`ratchet data sample` and `ratchet data search TEXT` show ids."
    )
    raise ValueError(f"There is no record {name!r}. {hint}")


def _ids(opened: duckdb.DuckDBPyConnection, condition: str, name: str) -> list[str]:
    """Return the first ids that meet a condition on `name`."""
    chosen = f"SELECT DISTINCT id FROM ({IDS}) WHERE id != '' AND {condition} ORDER BY id LIMIT 4"
    return [identity for (identity,) in opened.execute(chosen, [name]).fetchall()]


def _facts(opened: duckdb.DuckDBPyConnection, identity: str) -> tuple[Kind, dict[str, Any]]:
    for kind, query in FACTS.items():
        if matches := connection.rows(opened, query, [identity]):
            return kind, matches[0]
    raise AssertionError(f"{identity} is in no table")


def _parts(facts: dict[str, Any]) -> Iterator[Part]:
    """Yield the texts of a record in their order."""
    for turn in facts.get("messages", []):
        yield Part(turn["role"], turn["content"])
        yield from (Part(f"call of {call['name']}", call["arguments"]) for call in turn["tool_calls"] or [])
    if facts.get("rejected"):
        yield Part("rejected", facts["rejected"])
    if tests := facts.get("tests"):
        yield Part("tests", tests["code"])
    yield from (
        Part(name, facts[field])
        for field, name in (("text", "text"), ("proposal", "proposal"), ("record", "beginning"))
        if field in facts
    )


def _models(rounds: Sequence[str]) -> list[str]:
    """Return the models of params.yaml that these rounds train."""
    models = graph_file.read(graph_file.PARAMS).get("models") or {}
    return [
        str(name)
        for name, model in models.items()
        if isinstance(model, dict) and Path(str(model.get("path"))).parent.as_posix() == "models/tuned"
        if Path(str(model.get("path"))).name in rounds
    ]
