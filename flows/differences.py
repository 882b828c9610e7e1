"""What differs between two judged models: the stage at which their making parts, what follows from it, and the items lost and won."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from flows import history, promotion, versions
from tasks.core.nested import flat
from tasks.core.records import LOSSES, Example, Result
from tasks.io import provenance, tables

SHOWN = 5
"""Items of each kind that are named."""
GATE_SET = Path("data/ingested/gate.parquet")


@dataclass(frozen=True)
class Side:
    """One of the two: what it was made from, and what it is worth."""

    name: str
    card: dict[str, Any]
    lock: dict[str, dict[str, Any]]
    """The stages of its dvc.lock, in plan order."""
    results: list[Result]
    judged: bool = True
    """Whether the gate has decided on it: before that, its items are nobody's business."""
    settings: Path = Path("params.yaml")
    commit: str = "none"
    """What was checked out when it was judged, or now."""


@dataclass(frozen=True)
class Cause:
    """A stage whose own inputs differ, beside what stages before it made."""

    stage: str
    what: list[str]
    effect: list[str]
    """The stages that made other bytes for it, itself the first, each reading from one before. None: nothing came of it."""


def side(name: str) -> Side:
    """The model of that name: a version's number, `champion`, or `candidate`. Raises where there is none."""
    past = history.read()
    if name == "candidate":
        found = promotion.candidate()
        held = promotion.set_hash(tables.read(found.results, Result))
        judged = any((line.candidate, line.gate) == (found.hash, held) for line in past.decisions)
        one = _side(name, promotion.CANDIDATE, Path("dvc.lock"), found.results, judged=judged)
        return replace(one, commit=provenance.commit())
    if name == "champion" and past.champion == history.REFERENCE:
        raise ValueError("There is no champion: nothing was promoted yet. `ratchet promote` judges the candidate.")
    number = str(past.champion) if name == "champion" else name
    folder = versions.FOLDER / number
    if not folder.is_dir():
        known = sorted((path.name for path in versions.FOLDER.glob("*") if path.name.isdecimal()), key=int)
        raise ValueError(f"There is no version {name!r}. There are: {', '.join([*known, 'champion', 'candidate'])}.")
    one = _side(f"version {number}", folder / "candidate.json", folder / "dvc.lock", folder / versions.RESULTS)
    return replace(one, settings=folder / "params.yaml", commit=versions.decision(int(number)).commit)


def _side(name: str, card: Path, lock: Path, results: Path, *, judged: bool = True) -> Side:
    stages = (yaml.safe_load(lock.read_text(encoding="utf-8")) or {}).get("stages", {}) if lock.is_file() else {}
    return Side(name, json.loads(card.read_text(encoding="utf-8")), stages, tables.read(results, Result), judged)


def causes(before: Side, after: Side) -> list[Cause]:
    """The stages of the two models' making at which they part, in plan order; what follows from an earlier one is none.

    A stage that made other bytes from equal inputs is a cause too: another machine, or something that does not repeat. Nothing
    runs: all of it stands in the lock files that were kept.
    """
    found, lineage = [], _lineage(before) | _lineage(after)
    for stage, entry in after.lock.items():
        if stage not in lineage:
            continue
        earlier = before.lock.get(stage)
        if earlier is None:
            what = ["a stage that the other did not have"]
        else:
            what = list(_own_changes(earlier, entry, _made(after) | _made(before)))
        if what:
            found.append(Cause(stage, what, _effect(stage, before, after, lineage)))
    gone = [stage for stage in before.lock if stage in lineage and stage not in after.lock]
    return found + [Cause(stage, ["a stage that the first alone had"], [stage]) for stage in gone]


def _lineage(one: Side) -> set[str]:
    """The stages that a model and its results follow from; all of them where its card names no files."""
    files = [file["path"] for file in one.card.get("files", {}).values()]
    if not files:
        return set(one.lock)
    return upstream(one.lock, [*files, f"{promotion.RESULTS}/{one.card['candidate']}.parquet"])


def upstream(lock: Mapping[str, Mapping[str, Any]], paths: Sequence[str]) -> set[str]:
    """The stages of a dvc.lock that these files follow from."""
    found, wanted = set(), list(paths)
    for stage, entry in reversed(list(lock.items())):  # plan order: what a stage reads is made before it
        if any(_overlap(path, out) for out in hashes(entry, "outs") for path in wanted):
            found.add(stage)
            wanted += hashes(entry, "deps")
    return found


def _effect(stage: str, before: Side, after: Side, lineage: set[str]) -> list[str]:
    """The chain of other bytes that begins with a stage, as long as each reads what one before made otherwise."""
    chain: list[str] = []
    changed: list[str] = []
    for name, entry in ((name, entry) for name, entry in after.lock.items() if name in lineage):
        earlier, outs = hashes(before.lock.get(name, {}), "outs"), hashes(entry, "outs")
        other = [path for path, digest in outs.items() if earlier.get(path) != digest]
        reads = any(_overlap(path, out) for path in hashes(entry, "deps") for out in changed)
        if other and (name == stage or reads):
            chain.append(name)
            changed += other
    return chain


def _made(one: Side) -> set[str]:
    """What stages write: a change in it follows from the stage that did."""
    return {out["path"] for entry in one.lock.values() for out in entry.get("outs", [])}


def _own_changes(before: Mapping[str, Any], after: Mapping[str, Any], made: set[str]) -> Iterator[str]:
    first, later = hashes(before, "deps"), hashes(after, "deps")
    changed = [path for path in sorted(first.keys() | later.keys()) if first.get(path) != later.get(path)]
    for path in changed:
        if not any(_overlap(path, out) for out in made):
            yield f"{'code' if path.endswith('.py') else 'data'} {path}"
    settings = list(_settings(before.get("params", {}), after.get("params", {})))
    yield from settings
    if not changed and not settings and hashes(before, "outs") != hashes(after, "outs"):
        yield "other bytes from equal inputs: another class of machine, or something that does not repeat"


def hashes(entry: Mapping[str, Any], kind: str) -> dict[str, str]:
    """What an entry of dvc.lock says of its `deps` or `outs`: path → hash."""
    return {item["path"]: item.get("md5", "") for item in entry.get(kind, [])}


def _overlap(path: str, out: str) -> bool:
    """Whether one holds the other: a stage may read a folder in which others write."""
    one, other = Path(path), Path(out)
    return one == other or one in other.parents or other in one.parents


def _settings(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[str]:
    first, later = (dict(pair for file in side.values() for pair in flat(file)) for side in (before, after))
    for name in sorted(first.keys() | later.keys()):
        if first.get(name) != later.get(name):
            yield f"{name}: {first.get(name, 'not there')} → {later.get(name, 'not there')}"


def machine(before: Side, after: Side) -> list[str]:
    """What differs between the machines that made the two."""
    return list(_settings({"": before.card.get("machine", {})}, {"": after.card.get("machine", {})}))


def items(before: Side, after: Side) -> Iterator[str]:
    """Measure by measure, how many items got better and worse, and those that changed most, lost ones first.

    Of a candidate that was not judged nothing is told: who chose by it would look at the gate set more often than is counted.
    """
    if not (before.judged and after.judged):
        yield "Items of the gate set: `ratchet promote` first, which counts the look at them."
        return
    known = {(row.measure, row.item): row for row in before.results}
    pairs = [(known[key], row) for row in after.results if (key := (row.measure, row.item)) in known]
    sources = {row.id: row.source for row in tables.read(GATE_SET, Example)} if GATE_SET.is_file() else {}
    for measure in dict.fromkeys(row.measure for _, row in pairs):
        rises = [(_worse_by(one, other), other.item) for one, other in pairs if other.measure == measure]
        lost, won = (sorted((r for r in rises if sign * r[0] > 0), key=lambda r: -abs(r[0])) for sign in (1, -1))
        yield f"{measure}: {len(lost)} of {len(rises)} items lost, {len(won)} won"
        for word, some in (("lost", lost), ("won", won)):
            for rise, item in some[:SHOWN]:
                yield (
                    f"  {word} {sources.get(item, item)} ({-rise:+.3f})"
                    if measure not in LOSSES
                    else f"  {word} {sources.get(item, item)} ({rise:+.3f} nats/token)"
                )


def _worse_by(before: Result, after: Result) -> float:
    """The rise of a loss in nats per token, or the fall of a share."""
    if after.measure in LOSSES:
        return after.value / after.tokens - before.value / before.tokens
    return before.value - after.value
