"""Monitor incoming data for drift as a Prefect flow: `ratchet monitor FILE…`, or the deployment `monitor/incoming`.

On drift it emits the event `ratchet.drift`, which starts `retrain/on-drift` while `ratchet up` runs.
"""

import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import UUID

from httpx import HTTPError
from prefect import flow, get_client
from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.client.schemas.objects import State
from prefect.events import emit_event
from prefect.events.filters import EventFilter, EventIDFilter
from prefect.states import Completed

from flows.execution import flow_lease, prefect_server
from flows.execution.display import run_names
from flows.registry import drift_log
from flows.registry.drift_log import DriftCheck
from tasks.io.system import progress

DRIFT = "ratchet.drift"
"""The event of incoming data that differ from the training data."""
NAMES = ["Drift", "No drift", "Nothing new"]
"""The states in which a run of this flow can end, beside Prefect's own."""
PATIENCE_S, PACE_S = 30.0, 0.2
"""Seconds until an event must have reached its server, and seconds between two checks that it has."""


@flow(name="monitor", flow_run_name=run_names.of("monitor"), persist_result=False)
def monitor(files: list[str] | None = None) -> State[Any]:
    """Check `files`, or the data at `monitor.incoming` of params.yaml, for drift. Ends as `Drift`, `No drift` or `Nothing new`.

    Too few rows at `monitor.incoming` end as `Nothing new`. Data that were checked before, against the same model and training data,
    raise no second event if the server received the first.
    """
    with flow_lease.acquired():
        paths = drift_log.incoming_paths(files or [])
        if not files and drift_log.is_empty(paths):
            return _ended("Nothing new", f"no table has come in at {_shown(paths)}")
        findings = drift_log.check(paths)
    if findings.too_few and files:
        raise ValueError(findings.too_few)
    if findings.too_few:
        return _ended("Nothing new", findings.too_few)
    name = "Drift" if findings.drifted else "No drift"
    if findings.known:
        return _ended("Nothing new", f"{_shown(paths)} was checked before: {name.lower()}; {findings.line}")
    _show(findings)
    if findings.proposal:
        progress.say(findings.proposal)
    heard = not findings.drifted or (emit(findings, paths) and not prefect_server.is_private())
    if heard:  # an event that no server received is sent again next time
        drift_log.mark_reported(findings)
    return _ended(name, f"{_shown(paths)}: {findings.line}")


def emit(findings: DriftCheck, paths: Sequence[Path]) -> bool:
    """Emit the event. Returns True if it reached the server: this is checked, as Prefect sends in the background and reports no failure."""
    finding = f"{' and '.join(findings.drifted)} of {_shown(paths)} differ from what was trained on: {findings.line}"
    if findings.proposal:
        finding = f"{finding}. {findings.proposal}"
    event = emit_event(
        DRIFT,
        resource={"prefect.resource.id": "ratchet.incoming", "prefect.resource.name": _shown(paths)},
        payload={"finding": finding, "findings": dict(findings.findings)},
    )
    if event is not None and _has_arrived(event.id):
        return True
    progress.say(f"Prefect's server did not receive the event {DRIFT}. The next check of these data sends it again.")
    return False


def _has_arrived(event: UUID) -> bool:
    wanted, deadline = EventFilter(id=EventIDFilter(id=[event])), time.monotonic() + PATIENCE_S
    with get_client(sync_client=True) as client:
        while time.monotonic() < deadline:
            with suppress(HTTPError):  # a server of ours that died is being restarted
                if client.read_events(wanted, limit=1).events:
                    return True
            time.sleep(PACE_S)
    return False


def _show(findings: DriftCheck) -> None:
    rows = [{"monitor": name, **finding} for name, finding in findings.findings.items()]
    create_table_artifact(rows, key="drift", description=findings.line)
    if findings.proposal:
        create_markdown_artifact(f"**A new domain.** {findings.proposal}", key="new-domain", description=findings.line)


def _ended(name: str, line: str) -> State[Any]:
    progress.say(f"{name}: {line}")
    return Completed(name=name, message=line)


def _shown(paths: Sequence[Path]) -> str:
    return ", ".join(path.as_posix() for path in paths)
