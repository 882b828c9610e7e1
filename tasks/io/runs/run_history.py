"""Export earlier runs from MLflow to a file that another machine imports."""

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from tasks.io.runs import run_store, tracking
from tasks.io.system import files

CARRIED = ("mlflow.note.content", "mlflow.source.name", "mlflow.source.type", "mlflow.source.git.commit")
"""Tags of MLflow that are the same on every machine."""


def export(runs: Iterable[str], path: Path) -> int:
    """Write these MLflow runs and their parents to a file, one event per line. Return the number of runs.

    The events are those of a spool (`tasks.io.runs.tracking`), each with our id of its run. Raises ConnectionError while the store
    is out of reach.
    """
    try:
        client, _ = run_store.connect()
        exported = {run: client.get_run(run) for run in dict.fromkeys(runs)}
        parents = dict.fromkeys(run.data.tags.get("mlflow.parentRunId") for run in exported.values())
        exported = {
            name: client.get_run(name) for name in parents if name
        } | exported  # a parent comes before its children
        lines = [
            json.dumps({"run": run.data.tags["ratchet.run"]} | event, ensure_ascii=False)
            for run in exported.values()
            for event in _events(client, run, exported)
        ]
    except run_store.outages() as error:
        raise ConnectionError(f"MLflow ({run_store.shown()}) does not answer: {run_store.reason(error)}") from None
    files.write_atomically(path, "".join(f"{line}\n" for line in lines))
    return len(exported)


def _events(client: Any, run: Any, others: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the events of a run in the form of its spool."""
    info, data = run.info, run.data
    parent = others.get(data.tags.get("mlflow.parentRunId", ""))
    tags = {
        name: value for name, value in sorted(data.tags.items()) if not name.startswith("mlflow.") or name in CARRIED
    }
    yield {
        "kind": "start",
        "time": info.start_time,
        "name": info.run_name,
        "parent": parent.data.tags["ratchet.run"] if parent else None,
        "tags": tags,
    }
    yield {"kind": "params", "time": info.start_time, "values": dict(sorted(data.params.items()))}
    for name in sorted(data.metrics):
        for point in client.get_metric_history(info.run_id, name):
            yield {"kind": "metrics", "time": point.timestamp, "step": point.step, "values": {name: point.value}}
    datasets = {given.dataset.name: given.dataset.digest for given in run.inputs.dataset_inputs}
    if datasets:
        yield {"kind": "datasets", "time": info.start_time, "values": dict(sorted(datasets.items()))}
    yield {"kind": "end", "time": info.end_time, "status": info.status}


def take_in(path: Path) -> tuple[int, int]:
    """Pass the runs of such a file to this workspace's uploader, except those that MLflow has. Return the numbers of new and of known runs.

    Raises ValueError that names a line which is not an event, and ConnectionError while the store is out of reach.
    """
    events: dict[str, list[dict[str, Any]]] = {}
    for number, line in enumerate(files.lines(path), 1):
        try:
            event = json.loads(line)
            name, is_complete = event.pop("run"), tracking.is_portable(event)
        except (ValueError, KeyError, AttributeError, TypeError):
            raise ValueError(
                f"{path}:{number} is not an event of a run. `git log -p {path}` has its earlier states."
            ) from None
        if not name.isalnum() or not is_complete:
            raise ValueError(f"{path}:{number}: no run is called {name!r}, or this is not all of an event: {event}.")
        events.setdefault(name, []).append(event)
    known = tracking.known(events)
    if new := {name: lines for name, lines in events.items() if name not in known}:
        tracking.hand_in(new)
    return len(new), len(known)
