"""Read DVC's table of the paths that its processes use (`.dvc/tmp/rwlock`), and drop the entries of dead ones."""

import json
from typing import TYPE_CHECKING, Any

from flows.execution.dvc.repository import TEMPORARY_FOLDER
from tasks.io.system import files

if TYPE_CHECKING:
    import psutil

PATH = TEMPORARY_FOLDER / "rwlock"
OURS = "flows/execution/dvc/__main__.py"
"""Part of the command of a DVC process that a flow started."""


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


def living() -> dict[int, str]:
    """Return the owners that are still running: pid → command."""
    return {pid: command for pid, command in owners().items() if _process(pid)}


def dead() -> list[int]:
    """Return the owners that have ended. For a folder that machines share this is only a guess, since DVC's table names no machine."""
    return [pid for pid in owners() if not _process(pid)]


class StartedByHand:
    """The DVC processes that no flow started. One that was seen in the table counts until it ends, since between stages it is not in it."""

    def __init__(self) -> None:
        self._seen: dict[psutil.Process, str] = {}

    def running(self) -> dict[int, str]:
        """Return those that run now: pid → command."""
        for pid, command in owners().items():
            if OURS not in command and (process := _process(pid)):
                self._seen[process] = command
        self._seen = {process: command for process, command in self._seen.items() if _is_running(process)}
        return {process.pid: command for process, command in self._seen.items()}


def _process(pid: int) -> "psutil.Process | None":
    """Return the process of an owner; None if it has ended. A process that started after the table was written only reuses its pid."""
    import psutil

    try:
        process = psutil.Process(pid)
        return process if _is_running(process) and process.create_time() <= PATH.stat().st_mtime + 1 else None
    except psutil.NoSuchProcess:
        return None


def _is_running(process: "psutil.Process") -> bool:
    import psutil

    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


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
