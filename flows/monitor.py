"""Whether what comes in is still what was trained on; `ratchet monitor FILE…`, or the deployment `monitor/incoming`.

Where it is not, the event `ratchet.drift` says so, and starts `retrain/on-drift` where `ratchet up` runs.
"""

import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import UUID

from httpx import HTTPError
from prefect import flow, get_client
from prefect.artifacts import create_table_artifact
from prefect.client.schemas.objects import State
from prefect.events import emit_event
from prefect.events.filters import EventFilter, EventIDFilter
from prefect.states import Completed

from flows import server, turn, watching
from flows.watching import Look
from tasks.io import progress

DRIFT = "ratchet.drift"
"""The event that says: incoming data are other than what was trained on."""
NAMES = ["Drift", "No drift", "Nothing new"]
"""The states that it can end in, beside Prefect's own."""
PATIENCE_S, PACE_S = 30.0, 0.2
"""How long an event may take to its server, and how often that is asked."""


@flow(name="monitor", persist_result=False)
def monitor(files: list[str] | None = None) -> State[Any]:
    """Look at `files`, or at `monitor.incoming` of params.yaml. Ends as `Drift`, `No drift` or `Nothing new`.

    Data that were looked at before, against the same model and the same training data, raise no second event where the first
    could be heard.
    """
    with turn.taken():
        paths = watching.places(files or [])
        if not files and watching.is_empty(paths):
            return _ended("Nothing new", f"no table has come in at {_shown(paths)}")
        found = watching.look(paths)
    name = "Drift" if found.drifted else "No drift"
    if found.known:
        return _ended("Nothing new", f"{_shown(paths)} was looked at before: {name.lower()}; {found.line}")
    _show(found)
    heard = not found.drifted or (tell(found, paths) and not server.is_private())
    if heard:  # an event that nobody heard is told again
        watching.remember(found)
    return _ended(name, f"{_shown(paths)}: {found.line}")


def tell(found: Look, paths: Sequence[Path]) -> bool:
    """Emit the event. Returns whether the server has it: Prefect sends it in the background, and says nothing where that fails."""
    finding = f"{' and '.join(found.drifted)} of {_shown(paths)} differ from what was trained on: {found.line}"
    event = emit_event(
        DRIFT,
        resource={"prefect.resource.id": "ratchet.incoming", "prefect.resource.name": _shown(paths)},
        payload={"finding": finding, "findings": dict(found.findings)},
    )
    if event is not None and _has_arrived(event.id):
        return True
    progress.say(f"Prefect's server has not taken the event {DRIFT}: the next look at these data tells it again.")
    return False


def _has_arrived(event: UUID) -> bool:
    wanted, deadline = EventFilter(id=EventIDFilter(id=[event])), time.monotonic() + PATIENCE_S
    with get_client(sync_client=True) as client:
        while time.monotonic() < deadline:
            with suppress(HTTPError):  # a server of ours that has ended is started again
                if client.read_events(wanted, limit=1).events:
                    return True
            time.sleep(PACE_S)
    return False


def _show(found: Look) -> None:
    rows = [{"monitor": name, **finding} for name, finding in found.findings.items()]
    create_table_artifact(rows, key="drift", description=found.line)


def _ended(name: str, line: str) -> State[Any]:
    progress.say(f"{name}: {line}")
    return Completed(name=name, message=line)


def _shown(paths: Sequence[Path]) -> str:
    return ", ".join(path.as_posix() for path in paths)
