"""Whether what comes in is still what was trained on; `ratchet monitor FILE…`, or the deployment `monitor/incoming`.

Where it is not, the event `ratchet.drift` says so, and starts `retrain/on-drift` where `ratchet up` runs.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from prefect import flow
from prefect.artifacts import create_table_artifact
from prefect.client.schemas.objects import State
from prefect.events import emit_event
from prefect.states import Completed

from flows import server, turn, watching
from flows.watching import Look
from tasks.io import progress

DRIFT = "ratchet.drift"
"""The event that says: incoming data are other than what was trained on."""
NAMES = ["Drift", "No drift", "Nothing new"]
"""The states that it can end in, beside Prefect's own."""


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
    if found.drifted:
        tell(found, paths)
    if not (found.drifted and server.is_private()):  # an event that nobody heard is told again
        watching.remember(found)
    return _ended(name, f"{_shown(paths)}: {found.line}")


def tell(found: Look, paths: Sequence[Path]) -> None:
    """Emit the event."""
    finding = f"{' and '.join(found.drifted)} of {_shown(paths)} differ from what was trained on: {found.line}"
    emit_event(
        DRIFT,
        resource={"prefect.resource.id": "ratchet.incoming", "prefect.resource.name": _shown(paths)},
        payload={"finding": finding, "findings": dict(found.findings)},
    )


def _show(found: Look) -> None:
    rows = [{"monitor": name, **finding} for name, finding in found.findings.items()]
    create_table_artifact(rows, key="drift", description=found.line)


def _ended(name: str, line: str) -> State[Any]:
    progress.say(f"{name}: {line}")
    return Completed(name=name, message=line)


def _shown(paths: Sequence[Path]) -> str:
    return ", ".join(path.as_posix() for path in paths)
