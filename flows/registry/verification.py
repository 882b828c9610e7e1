"""Verify that a workspace holds what its record says: files by hash, models by their cards, and losses by measuring them again."""

import json
import math
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flows.execution.dvc import cache, forecast
from flows.registry import history, promotion, versions
from flows.registry.evidence import checking, layout, signing
from flows.registry.share import RUNS
from tasks import configuration
from tasks.core.records import LOSSES, Result
from tasks.io import provenance, tables
from tasks.io.runs import run_history
from tasks.io.weights import checkpoints

MODELS = Path("models")
TOLERANCE = {"fp32": 0.001, "bf16": 0.02}
"""Precision → largest difference of a loss from its record on another class of machine, in nats per token.
On the same class, losses have to be bit-identical, item by item."""


@dataclass(frozen=True)
class Check:
    """The result of one check."""

    holds: bool
    what: str


def check_files() -> Iterator[Check]:
    """Check outputs against dvc.lock, inputs against their state when it was written, models against their cards.

    All are read anew: what is remembered of a file by its size and time would pass one that changed and kept both.
    """
    provenance.forget_digests()
    count, problems = cache.check_outputs()
    reported = {f"{path} {problem}" for path, problem in problems.items()}
    yield from (Check(False, line) for line in sorted(reported))
    if not problems:
        yield Check(True, f"all {count} outputs have the hashes of dvc.lock")
    changed = {
        step.stage: [why for why in step.why if why not in reported and not why.endswith("may change")]
        for step in forecast.plan()
    }
    for stage, why in changed.items():
        if why:
            yield Check(False, f"{stage} is not what dvc.lock was written for: {'; '.join(why)}")
    if not any(changed.values()):
        yield Check(
            True, f"settings, code and data of all {len(changed)} stages are those that dvc.lock was written for"
        )
    yield from _cards()
    yield from _candidate()
    yield from _champion()
    yield from _evidence()


def _cards() -> Iterator[Check]:
    """Check every model that has a card: its weights against the card, and the card's parent against the model it was made from."""
    folders = sorted(path.parent for path in MODELS.glob("**/" + checkpoints.CARD) if not _is_version(path))
    digests = {folder: checkpoints.weights_digest(folder) for folder in folders}
    by_digest = {digest: folder for folder, digest in digests.items()}
    for folder, digest in digests.items():
        card = checkpoints.read_card(folder)
        if card["weights"] != digest:
            yield Check(
                False, f"{folder}: its weights are {digest[:12]}, its {checkpoints.CARD} says {card['weights'][:12]}"
            )
            continue
        parent = card.get("parent")
        stands_on = f", made from {by_digest[parent]}" if parent in by_digest else ""
        yield Check(True, f"{folder}: weights {digest[:12]} as in {checkpoints.CARD}{stands_on}")
        if parent and not stands_on:
            yield Check(False, f"{folder} was made from weights {parent[:12]}, and no model here holds them")


def _is_version(path: Path) -> bool:
    """Return True if a file belongs to the store of versions or to evidence, which have hashes of their own."""
    return any(path.is_relative_to(folder) for folder in (versions.FOLDER, versions.CHAMPION, layout.FOLDER))


def _candidate() -> Iterator[Check]:
    if not promotion.CANDIDATE.is_file():
        return
    card = json.loads(promotion.CANDIDATE.read_text(encoding="utf-8"))
    if card["candidate"] is None:
        yield Check(True, f"{promotion.CANDIDATE}: none, as {card['why']}")
        return
    try:
        promotion.load_candidate()
    except ValueError as error:
        yield Check(False, str(error))
    else:
        yield Check(
            True, f"{promotion.CANDIDATE}: {card['candidate']}, its files and its results on the gate set by hash"
        )


def _champion() -> Iterator[Check]:
    """Check the history of promotions against the store of versions, if this workspace has one."""
    try:
        past = history.read()
        if not past.lines and not versions.FOLDER.is_dir():
            return
        yield Check(True, f"{history.HISTORY}: {len(past.lines)} lines, each following the one before")
        if not versions.FOLDER.is_dir():
            yield Check(
                True,
                f"{versions.FOLDER} is not here, and nothing can be promoted without it: in place is {past.in_place}",
            )
            return
        for line in promotion.missing_lines(past):
            yield Check(False, f"{history.HISTORY} lacks the {line.kind} of {line.time}: `ratchet promote` restores it")
        for number, line in past.promoted.items():
            promotion.stored_results(number, line.results)
            versions.check_files(number, line.files)
            yield Check(True, f"{versions.folder(number)}: its files and what it was judged by, by hash")
    except (ValueError, FileNotFoundError) as error:
        yield Check(False, str(error))
        return
    linked = versions.linked_champion()
    champion = f"version {linked}" if linked else "not there"
    yield Check(linked == past.champion, f"{versions.CHAMPION} is {champion}; in place is {past.in_place}")


def _evidence() -> Iterator[Check]:
    """Check the evidence of each model that has any, by the keys that this workspace trusts."""
    folders = sorted(path for path in layout.FOLDER.glob("*") if path.is_dir() and not path.name.startswith("."))
    for folder in folders:
        yield from check_evidence(folder, signing.TRUSTED)
        yield from (Check(False, f"{folder}: {problem}") for problem in checking.workspace_problems(folder))


def check_evidence(folder: Path, keys: Path) -> Iterator[Check]:
    """Check a folder of evidence, inside or outside the workspace, by the public keys in a file."""
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is not a folder of evidence. `ratchet evidence` writes one.")
    try:
        signing.check_installed()
        public = signing.trusted(keys)
    except ValueError as error:
        yield Check(False, f"{folder}: {error}")
        return
    problems = checking.problems(folder, public)
    yield from (Check(False, f"{folder}: {problem}") for problem in problems)
    if not problems:
        yield Check(
            True, f"{folder}: signed by a trusted key, and its records agree with each other and with its files"
        )


def import_runs() -> Iterator[Check]:
    """Import the MLflow runs of data/runs.jsonl; runs that MLflow already has are not changed."""
    if RUNS.is_file():
        new, known = run_history.take_in(RUNS)
        yield Check(True, f"{RUNS}: {new} MLflow runs taken over, {known} known already")


def check_losses(names: Sequence[str]) -> Iterator[Check]:
    """Measure the losses of these models (all if none is named) again, and compare them with their record."""
    config = configuration.load()
    if unknown := [name for name in names if name not in config.models]:
        raise ValueError(f"params.yaml has no model {unknown[0]!r}. There are: {', '.join(config.models) or 'none'}.")
    for name in names or config.models:
        _, writes = configuration.files("evaluate", name, config)
        with tempfile.TemporaryDirectory() as folder:
            results = Path(folder) / "results.parquet"
            command = [sys.executable, "-m", "tasks.remeasure", name, str(results)]
            if subprocess.run(command, check=False).returncode:
                yield Check(False, f"{name} could not be measured; the lines above say why")
                continue
            now = tables.read(results, Result)
        measured = json.loads(writes["metrics"].read_text(encoding="utf-8"))["settings"]
        then = tables.read(writes["results"], Result)
        same_class = measured["machine"] == provenance.machine_class()
        yield from compare_losses(name, then, now, measured["precision"], same_class=same_class)


def compare_losses(
    name: str, then: Sequence[Result], now: Sequence[Result], precision: str, *, same_class: bool
) -> Iterator[Check]:
    """Compare a model's losses with those of its record, measure by measure."""
    for measure in LOSSES:
        before, after = ({row.item: row for row in rows if row.measure == measure} for rows in (then, now))
        if not before and not after:
            continue
        label = f"{name}: {measure} loss"
        if {item: row.tokens for item, row in before.items()} != {item: row.tokens for item, row in after.items()}:
            yield Check(False, f"{label} is of other items or tokens than its record")
            continue
        sound, sound_now = (
            {item: row for item, row in rows.items() if math.isfinite(row.value)} for rows in (before, after)
        )
        first, later = _loss(sound.values()), _loss(sound_now.values())
        unequal = sum(not _is_equal(before[item].value, after[item].value) for item in before)
        diverged = f" (diverged: {len(after) - len(sound_now)})" if len(sound_now) < len(after) else ""
        loss = f"{later:.4f} nats/token on {len(sound_now)} items{diverged}"
        if not unequal:
            yield Check(True, f"{label} {loss}, bit-identical to the record")
        elif same_class:
            yield Check(
                False,
                f"{label} {loss}; {unequal} items differ from the record ({first:.4f}) on the same class of machine",
            )
        elif sound.keys() != sound_now.keys():
            yield Check(
                False, f"{label} {loss}; in the record other items diverged (recorded: {len(before) - len(sound)})"
            )
        else:
            within = abs(later - first) <= TOLERANCE[precision]
            yield Check(
                within,
                f"{label} {loss}, recorded {first:.4f}: another class of machine may differ by {TOLERANCE[precision]:g} ({precision})",
            )


def _is_equal(before: float, after: float) -> bool:
    """Return True if values are bit-identical; NaN of a diverged model equals NaN."""
    return before == after or (math.isnan(before) and math.isnan(after))


def _loss(rows: Any) -> float:
    """Return the nats per token of results; NaN if there are none."""
    rows = list(rows)
    return sum(row.value for row in rows) / sum(row.tokens for row in rows) if rows else math.nan
