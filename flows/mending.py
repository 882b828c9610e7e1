"""What killed processes leave behind, found and mended: torn files of DVC, claims of the dead, outputs that were never finished.

Knows where dvc 3.67 keeps its locks, and that it rewrites `dvc.lock` and its table of paths in use in place.
"""

import json
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from flows import workspace
from tasks import settings
from tasks.io import files

LOCK = Path("dvc.lock")
GOOD = workspace.SCRATCH / "dvc.lock.good"
"""The last canonical lock file, for the day the present one is torn."""
TEMPORARY = Path("dvc.lock.partial")
DVC = Path(".dvc/tmp")
RWLOCK = DVC / "rwlock"
RUN_NAME = re.compile("[0-9a-f]{64}")
"""The name of an entry in DVC's run cache. Anything else there is a file that was still being written."""
GRACE_S = 60.0
"""Age from which an unfinished entry counts as left behind, in a cache that other workspaces may be writing to."""


def mend() -> list[str]:
    """Repair what is broken here, and say what was done, one line each. Waits for a DVC at work, whose files look torn for moments.

    The workspace must be claimed: what another flow or another machine has at work is no damage.
    """
    if not damages() and not TEMPORARY.exists():
        return []
    with _dvc_aside():
        TEMPORARY.unlink(missing_ok=True)
        return [*_mend_lock(), *_mend_rwlock(), *_mend_run_cache(), *_clear()]


def damages() -> list[str]:
    """What `mend` would repair, one line each."""
    torn = [
        f"{path} is torn: {problem}"
        for path, problem in ((LOCK, lock_problem()), (RWLOCK, rwlock_problem()))
        if problem
    ]
    dead = [f"a dead process ({pid}) owns paths in DVC's table" for pid in _dead()]
    cut = [f"{path}: DVC's run cache has an entry whose write was cut off" for path in _unfinished_entries()]
    return [*torn, *dead, *cut, *(f"{path} was left unfinished by a stage that was killed" for path in _unfinished())]


def _mend_lock() -> Iterator[str]:
    if problem := lock_problem():
        torn = workspace.SCRATCH / "dvc.lock.torn"
        torn.parent.mkdir(exist_ok=True)
        shutil.copyfile(LOCK, torn)
        if GOOD.exists() and not lock_problem(GOOD):
            shutil.copyfile(GOOD, TEMPORARY)
            TEMPORARY.replace(LOCK)
        else:
            LOCK.unlink()
        source = "the last good copy was put in its place" if LOCK.exists() else "it is made anew from DVC's run cache"
        yield f"{LOCK} was torn ({problem}); {source}. The torn one is {torn}."


def _mend_rwlock() -> Iterator[str]:
    if problem := rwlock_problem():
        torn = workspace.SCRATCH / "rwlock.torn"
        torn.parent.mkdir(exist_ok=True)
        RWLOCK.rename(torn)
        yield f"{RWLOCK} was torn ({problem}) and was moved to {torn}."
    elif dead := _dead():
        table = _table()
        for paths in table.values():
            for path, holders in list(paths.items()):
                alive = [one for one in _entries(holders) if one["pid"] not in dead]
                if not alive:
                    del paths[path]
                elif isinstance(holders, list):
                    paths[path] = alive
        partial = RWLOCK.with_name("rwlock.partial")
        partial.write_text(json.dumps(table), encoding="utf-8")
        partial.rename(RWLOCK)
        yield f"DVC's table of paths in use named a process that is gone ({', '.join(map(str, dead))}); its claims are dropped."


def _mend_run_cache() -> Iterator[str]:
    for path in _unfinished_entries():
        if path.is_dir():
            path.rmdir()
        else:
            path.unlink()
        yield f"{path}, an entry of DVC's run cache whose write was cut off, is removed."


def _unfinished_entries() -> list[Path]:
    """Temporary files and empty folders in DVC's run cache (`runs/ab/<key>/<value>`), files first.

    DVC makes the folder, writes a temporary file in it, and renames that. Where it is killed or the disk is full in between,
    `dvc.stage.cache` fails at every later run of that stage with an empty folder, and takes a temporary file for an entry.
    """
    runs = cache_folder() / "runs"
    folders = list(runs.glob("*/*"))
    temporary = [path for folder in folders for path in folder.iterdir() if not RUN_NAME.fullmatch(path.name)]
    empty = [folder for folder in folders if all(path in temporary for path in folder.iterdir())]
    unfinished = [*temporary, *empty]
    if runs.resolve().is_relative_to(Path.cwd()):
        return unfinished
    return [path for path in unfinished if path.exists() and time.time() - path.stat().st_mtime > GRACE_S]


def cache_folder() -> Path:
    """Return the folder of DVC's cache, as DVC's configuration names it."""
    from dvc.config import Config

    return Path(Config(".dvc", validate=False)["cache"].get("dir") or ".dvc/cache").resolve()


def _clear() -> Iterator[str]:
    for path in _unfinished():
        files.remove(path)
        yield f"{path}, which a killed stage left unfinished, is removed."


def lock_problem(path: Path = LOCK) -> str | None:
    """What is wrong with `dvc.lock`, where a write was cut off; None where it is whole or absent.

    What is left of a YAML file is YAML more often than not. A cut between two files of a stage leaves nothing to see here:
    `graph.tidy` finds the rest missing.
    """
    if not path.exists():
        return None
    if not path.read_bytes().endswith(b"\n"):
        return "its last line has no end"
    from dvc.exceptions import DvcException
    from dvc.schema import COMPILED_LOCKFILE_SCHEMA
    from dvc.utils.serialize import load_yaml
    from voluptuous import Invalid

    try:
        lock = load_yaml(path)
        if not lock:
            return "it is empty"
        COMPILED_LOCKFILE_SCHEMA(lock)
    except (DvcException, Invalid) as error:
        return str(error).splitlines()[0]
    bare = [name for name, entry in lock.get("stages", {}).items() if not _is_whole(entry)]
    return f"stage {bare[0]} has an entry without a hash" if bare else None


def _is_whole(entry: dict[str, Any]) -> bool:
    """Whether every file of a stage's entry has its hash, beside its path and the name of the hash."""
    listed = [*entry.get("deps", []), *entry.get("outs", [])]
    return all(
        any(isinstance(value, str) and name not in ("path", "hash") for name, value in file.items()) for file in listed
    )


def rwlock_problem() -> str | None:
    """What is wrong with DVC's table of paths in use, where a write was cut off."""
    try:
        table = json.loads(RWLOCK.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError as error:
        return str(error)
    return None if isinstance(table, dict) else "it is no table"


def owners() -> dict[int, str]:
    """The processes that DVC believes to be at work in this workspace: pid → command."""
    if rwlock_problem():
        return {}
    holders = [holder for paths in _table().values() for holder in paths.values()]
    return {entry["pid"]: entry["cmd"] for holder in holders for entry in _entries(holder)}


def works(pid: int) -> bool:
    """Whether the owner of paths is still there, and its number was not given to a stranger since the table was written."""
    import psutil

    try:
        process = psutil.Process(pid)
        return process.status() != psutil.STATUS_ZOMBIE and process.create_time() <= RWLOCK.stat().st_mtime + 1
    except psutil.NoSuchProcess:
        return False


def _dead() -> list[int]:
    if any(owner.elsewhere for owner in workspace.held().values()):
        return []  # DVC's table names no machine: these may be processes of that one
    return [pid for pid in owners() if not works(pid)]


def _table() -> dict[str, Any]:
    return dict(json.loads(RWLOCK.read_text(encoding="utf-8"))) if RWLOCK.exists() else {}


def _entries(holders: Any) -> list[dict[str, Any]]:
    """A path has one writer or many readers."""
    return holders if isinstance(holders, list) else [holders]


def _unfinished() -> list[Path]:
    """Outputs of our stages beside their places that nobody finishes any more. What else is called so is somebody's upload."""
    places = [place for stage in settings.stage_names() for place in settings.declaration(stage).writes.values()]
    patterns = [re.sub(r"\{\w+\}", "*", place) for place in places]
    left = sorted({path for pattern in patterns for path in Path().glob(f"{pattern}.partial")})
    return [] if left and workspace.stages_at_work() else left


@contextmanager
def _dvc_aside() -> Iterator[None]:
    """No DVC writes its files within."""
    from dvc.lock import Lock

    DVC.mkdir(parents=True, exist_ok=True)
    with Lock(str(DVC / "lock"), wait=True), Lock(str(DVC / "rwlock.lock"), wait=True):
        yield
