"""Read the time and memory of earlier runs from MLflow.

A local database is read by SQL: to import MLflow takes more than a CPU-second, which `ratchet plan` and every flow would pay.
"""

import contextlib
import logging
import sqlite3
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.io.runs import run_store

LATEST = """
SELECT run_uuid, start_time, end_time FROM runs JOIN experiments USING (experiment_id)
WHERE experiments.name = :experiment AND experiments.lifecycle_stage = 'active'
    AND runs.lifecycle_stage = 'active' AND runs.status = 'FINISHED'
    AND EXISTS (
        SELECT 1 FROM tags WHERE tags.run_uuid = runs.run_uuid AND key = 'dvc.stage'
            AND (value = :stage OR substr(value, 1, length(:stage) + 1) = :stage || '@')
    )
    AND EXISTS (SELECT 1 FROM tags WHERE tags.run_uuid = runs.run_uuid AND key = 'ratchet.key')
    AND NOT EXISTS (SELECT 1 FROM params WHERE params.run_uuid = runs.run_uuid AND key = 'taken_over_from')
ORDER BY start_time DESC LIMIT :most
"""
"""The latest runs that computed outputs of a stage, in the tables of MLflow 3. A run without work has no key."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Past:
    """The time and memory of one finished run of a stage."""

    config: dict[str, str]
    """All recorded parameters, including settings: full name → value."""
    machine: str
    """The machine class, in words."""
    seconds: float
    memory_mb: float | None
    output_mb: float | None


def past(stages: Iterable[str], most: int = 20) -> dict[str, list[Past]]:
    """Return the latest runs of each stage, for any item, that computed their outputs; none while the store is out of reach."""
    if run_store.is_new():
        return {}  # its schema takes seconds to make, and holds nothing
    names = list(stages)
    if file := run_store.file_of(run_store.uri()):
        # A busy or damaged database, and one of another MLflow, is MLflow's to read.
        with contextlib.suppress(sqlite3.Error):
            return _of_file(file, names, most)
    try:
        client, experiment = run_store.connect()
        return {stage: _of_client(client, experiment, stage, most) for stage in names}
    except run_store.outages() as error:
        _log.warning("MLflow (%s) does not answer: %s", run_store.shown(), error)
        return {}


def _of_file(file: Path, stages: Iterable[str], most: int) -> dict[str, list[Past]]:
    """Return the runs in a local database."""
    with contextlib.closing(sqlite3.connect(f"{file.resolve().as_uri()}?mode=ro", uri=True)) as database:
        return {stage: list(_in_tables(database, stage, most)) for stage in stages}


def _in_tables(database: sqlite3.Connection, stage: str, most: int) -> Iterator[Past]:
    chosen = {"experiment": run_store.name(), "stage": stage, "most": most}
    for run, start, end in database.execute(LATEST, chosen).fetchall():
        params, tags, metrics = (
            dict(database.execute(f"SELECT key, value FROM {table} WHERE run_uuid = ?", (run,)))
            for table in ("params", "tags", "latest_metrics")
        )
        yield _past(params, tags, metrics, start, end)


def _of_client(client: Any, experiment: str, stage: str, most: int) -> list[Past]:
    """Return the runs in a store that MLflow's client reads."""
    # Only a stage that ran has a key. A run without work leaves a cached child, and there may be hundreds of these.
    finished = f"attributes.status = 'FINISHED' and tags.`dvc.stage` LIKE '{stage}%' and tags.`ratchet.key` LIKE '%'"
    latest = client.search_runs([experiment], finished, max_results=4 * most, order_by=["attributes.start_time DESC"])
    made = [run for run in latest if _is_of(run, stage) and "taken_over_from" not in run.data.params]
    return [
        _past(run.data.params, run.data.tags, run.data.metrics, run.info.start_time, run.info.end_time)
        for run in made[:most]
    ]


def _is_of(run: Any, stage: str) -> bool:
    return bool(run.data.tags["dvc.stage"].partition("@")[0] == stage)


def _past(params: dict[str, str], tags: dict[str, str], metrics: dict[str, float], start: int, end: int) -> Past:
    """Return the run with these records; `start` and `end` are in milliseconds."""
    return Past(
        config=params,
        machine=tags.get("machine", ""),
        seconds=(end - start) / 1000,
        memory_mb=metrics.get("peak_memory_mb"),
        output_mb=metrics.get("output_mb"),
    )
