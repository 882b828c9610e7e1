"""Read DVC's table of the paths that its processes use (`.dvc/tmp/rwlock`), and drop the entries of dead ones."""

import json
from typing import Any

from flows.execution import workspace_lease
from flows.execution.dvc.repository import TEMPORARY_FOLDER
from tasks.io.system import files

PATH = TEMPORARY_FOLDER / "rwlock"


def problem() -> str | None:
    """Return why the table cannot be read, as after a write that was cut off; None if it is complete or absent."""
    try:
        table = json.loads(PATH.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError as error:
        return str(error)
    return None if isinstance(table, dict) else "it is no table"


def owners() -> dict[int, str]:
    """Return the processes that use paths of this workspace according to DVC's table: pid → command."""
    if problem():
        return {}
    holders = [holder for paths in _table().values() for holder in paths.values()]
    return {entry["pid"]: entry["cmd"] for holder in holders for entry in _entries(holder)}


def is_alive(pid: int) -> bool:
    """Return True if an owner is still running. A process that started after the table was written only reuses the pid, and is no owner."""
    import psutil

    try:
        process = psutil.Process(pid)
        return process.status() != psutil.STATUS_ZOMBIE and process.create_time() <= PATH.stat().st_mtime + 1
    except psutil.NoSuchProcess:
        return False


def dead_owners() -> list[int]:
    """Return the owners that have ended. DVC's table names no machine: if another machine holds a lock here, no owner counts as ended."""
    if any(owner.elsewhere for owner in workspace_lease.held().values()):
        return []
    return [pid for pid in owners() if not is_alive(pid)]


def drop(pids: list[int]) -> None:
    """Remove the entries of these processes from the table."""
    table = _table()
    for paths in table.values():
        for path, holders in list(paths.items()):
            alive = [entry for entry in _entries(holders) if entry["pid"] not in pids]
            if not alive:
                del paths[path]
            elif isinstance(holders, list):
                paths[path] = alive
    files.write_atomically(PATH, json.dumps(table))


def _table() -> dict[str, Any]:
    return dict(json.loads(PATH.read_text(encoding="utf-8"))) if PATH.exists() else {}


def _entries(holders: Any) -> list[dict[str, Any]]:
    """Return the holders of a path as a list: one writer or several readers."""
    return holders if isinstance(holders, list) else [holders]
