"""Compare two judged models: the stages whose inputs differ, the effects of these differences, and the items lost and won."""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from flows.execution.dvc import lock_file
from flows.execution.dvc.lock_graph import hashes, overlap, upstream
from flows.registry import history, promotion, versions
from tasks.core.nested import flat
from tasks.core.promotion import gate
from tasks.core.records import LOSSES, Example, Result
from tasks.io import tables
from tasks.io.system import git

SHOWN = 5
"""Largest number of items of each kind that are named."""
GATE_SET = Path("data/ingested/gate.parquet")


@dataclass(frozen=True)
class ModelRecord:
    """The record of a model: its card, the lock file and settings with which it was made, and its results on the gate set."""

    name: str
    card: dict[str, Any]
    lock: dict[str, dict[str, Any]]
    """The stages of its dvc.lock, in plan order."""
    results: list[Result]
    judged: bool = True
    """True if the gate has decided on it. Before that, its items are not shown."""
    conditions: str = ""
    """The digest of the settings under which the results were measured; empty for those of earlier releases."""
    config: Path = Path("params.yaml")
    commit: str = "none"
    """The commit that was checked out when it was judged; for the candidate, the current one."""


@dataclass(frozen=True)
class Cause:
    """A stage whose own inputs differ, apart from the outputs of stages before it."""

    stage: str
    what: list[str]
    """The settings, code and data that differ."""
    effect: list[str]
    """The stages whose outputs differ because of it, beginning with itself, each reading from one before. Empty if no output differs."""


def load_record(name: str) -> ModelRecord:
    """Return the record of a model: a version's number, `champion`, or `candidate`. Raises ValueError if there is none."""
    past = history.read()
    if name == "candidate":
        candidate = promotion.load_candidate()
        gate_hash = promotion.gate_set_hash(candidate.results)
        judged = any((line.candidate, line.gate) == (candidate.hash, gate_hash) for line in past.decisions)
        record = _record(name, promotion.CANDIDATE, lock_file.PATH, candidate.results, judged=judged)
        return replace(record, commit=git.commit())
    if name == "champion" and past.champion == history.REFERENCE:
        raise ValueError("There is no champion: nothing was promoted yet. `ratchet promote` judges the candidate.")
    number = str(past.champion) if name == "champion" else name
    folder = versions.FOLDER / number
    if not folder.is_dir():
        known = sorted((path.name for path in versions.FOLDER.glob("*") if path.name.isdecimal()), key=int)
        there = f"There are: {', '.join([*known, 'champion', 'candidate'])}."
        raise ValueError(
            f"There is no version {name!r}. {there if known else 'Nothing was promoted yet: `ratchet promote` judges the candidate.'}"
        )
    record = _record(f"version {number}", folder / "candidate.json", folder / "dvc.lock", folder / versions.RESULTS)
    return replace(record, config=folder / "params.yaml", commit=versions.decision(int(number)).commit)


def _record(name: str, card: Path, lock: Path, results: Path, *, judged: bool = True) -> ModelRecord:
    return ModelRecord(
        name,
        json.loads(card.read_text(encoding="utf-8")),
        lock_file.stages(lock),
        tables.read(results, Result),
        judged,
        promotion.conditions(results),
    )


def causes(before: ModelRecord, after: ModelRecord) -> list[Cause]:
    """Return the stages whose own inputs differ between the two models, in plan order. A stage that only follows from an earlier one is not a cause.

    A stage that made other bytes from equal inputs is a cause too, because of another machine or of something that is not reproducible.
    Nothing runs: everything is read from the stored lock files.
    """
    differing, lineage = [], _lineage(before) | _lineage(after)
    for stage, entry in after.lock.items():
        if stage not in lineage:
            continue
        earlier = before.lock.get(stage)
        if earlier is None:
            what = ["a stage that the other did not have"]
        else:
            what = list(_own_changes(earlier, entry, _outputs(after) | _outputs(before)))
        if what:
            differing.append(Cause(stage, what, _effect(stage, before, after, lineage)))
    removed = [stage for stage in before.lock if stage in lineage and stage not in after.lock]
    return differing + [Cause(stage, ["a stage that the first alone had"], [stage]) for stage in removed]


def _lineage(record: ModelRecord) -> set[str]:
    """Return the stages on which a model and its results depend; all stages if its card names no files."""
    files = [file["path"] for file in record.card.get("files", {}).values()]
    if not files:
        return set(record.lock)
    return upstream(record.lock, [*files, f"{promotion.RESULTS}/{record.card['candidate']}.parquet"])


def _effect(stage: str, before: ModelRecord, after: ModelRecord, lineage: set[str]) -> list[str]:
    """Return the chain of stages with changed outputs that begins with this one, each reading a changed output of one before."""
    chain: list[str] = []
    changed: list[str] = []
    for name, entry in ((name, entry) for name, entry in after.lock.items() if name in lineage):
        earlier, outs = hashes(before.lock.get(name, {}), "outs"), hashes(entry, "outs")
        other = [path for path, digest in outs.items() if earlier.get(path) != digest]
        reads = any(overlap(path, out) for path in hashes(entry, "deps") for out in changed)
        if other and (name == stage or reads):
            chain.append(name)
            changed += other
    return chain


def _outputs(record: ModelRecord) -> set[str]:
    """Return the paths that stages write. A change of one is caused by the stage that wrote it."""
    return {out["path"] for entry in record.lock.values() for out in entry.get("outs", [])}


def _own_changes(before: Mapping[str, Any], after: Mapping[str, Any], outputs: set[str]) -> Iterator[str]:
    first, later = hashes(before, "deps"), hashes(after, "deps")
    changed = [path for path in sorted(first.keys() | later.keys()) if first.get(path) != later.get(path)]
    for path in changed:
        if not any(overlap(path, out) for out in outputs):
            yield f"{'code' if path.endswith('.py') else 'data'} {path}"
    config = list(_settings(before.get("params", {}), after.get("params", {})))
    yield from config
    if not changed and not config and hashes(before, "outs") != hashes(after, "outs"):
        yield "other bytes from equal inputs: another class of machine, or a computation that is not deterministic"


def _settings(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[str]:
    first, later = (dict(pair for file in side.values() for pair in flat(file)) for side in (before, after))
    for name in sorted(first.keys() | later.keys()):
        if first.get(name) != later.get(name):
            yield f"{name}: {first.get(name, 'not there')} → {later.get(name, 'not there')}"


def machine_changes(before: ModelRecord, after: ModelRecord) -> list[str]:
    """Return the differences between the machines that made the two models."""
    return list(_settings({"": before.card.get("machine", {})}, {"": after.card.get("machine", {})}))


@dataclass(frozen=True)
class ItemChange:
    """An item on which one model is worse than the other."""

    item: str
    source: str
    """The source of the item, or its id if the source is not known."""
    worse_by: float
    """The rise of a loss in nats per token, or the fall of a share; infinite (null in JSON) if one of the two diverged."""


@dataclass(frozen=True)
class MeasureChange:
    """The items of one measure that the second model lost and won, with the largest changes first."""

    measure: str
    items: int
    lost: int
    won: int
    most_lost: list[ItemChange]
    most_won: list[ItemChange]


def item_changes(before: ModelRecord, after: ModelRecord) -> list[MeasureChange] | None:
    """Return, for each measure, the items lost and won. As in the gate, only items with the same tokenizer and reference in both count.

    None if a candidate was not judged, because a choice by its items would be a look at the gate set that is not counted. Empty if the two were
    measured under different settings, whose figures cannot be compared.
    """
    if not (before.judged and after.judged):
        return None
    if before.conditions != after.conditions:
        return []
    earlier = {(row.measure, row.item): row for row in before.results}
    both = [(earlier[key], row) for row in after.results if (key := (row.measure, row.item)) in earlier]
    pairs = [pair for pair in both if gate.asked(pair[0]) == gate.asked(pair[1])]
    sources = {row.id: row.source for row in tables.read(GATE_SET, Example)} if GATE_SET.is_file() else {}
    measures = dict.fromkeys(row.measure for _, row in pairs)
    return [_measure_change(name, [pair for pair in pairs if pair[1].measure == name], sources) for name in measures]


def _measure_change(measure: str, pairs: Sequence[tuple[Result, Result]], sources: Mapping[str, str]) -> MeasureChange:
    changes = [
        ItemChange(after.item, sources.get(after.item, after.item), _worse_by(before, after)) for before, after in pairs
    ]
    lost, won = (
        sorted((c for c in changes if sign * c.worse_by > 0), key=lambda c: (-abs(c.worse_by), c.item))
        for sign in (1, -1)
    )
    return MeasureChange(measure, len(changes), len(lost), len(won), lost[:SHOWN], won[:SHOWN])


def _worse_by(before: Result, after: Result) -> float:
    """Return the rise of a loss in nats per token, or the fall of a share; infinite if only one of the two is a finite number."""
    if not (math.isfinite(before.value) and math.isfinite(after.value)):
        return math.inf if math.isfinite(before.value) else -math.inf if math.isfinite(after.value) else 0.0
    if after.measure in LOSSES:
        return after.value / after.tokens - before.value / before.tokens
    return before.value - after.value
