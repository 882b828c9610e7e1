"""Find and repair what killed processes leave behind: truncated files of DVC, entries of dead processes, unfinished outputs."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from flows.execution import workspace, workspace_lease
from flows.execution.dvc import lock_file, repository, run_cache, rwlock, version
from tasks import configuration
from tasks.io.system import files


def repair() -> list[str]:
    """Repair what is broken in this workspace and return what was done, one line each.

    Waits for running DVC processes, whose files look truncated for moments. The caller must hold the workspace's lease, since work of
    another flow or machine is no damage. Raises ValueError for a merge conflict in dvc.lock, which a person has to resolve.
    """
    version.check()
    if not damages() and not lock_file.TEMPORARY.exists():
        return []
    with repository.locked():
        lock_file.TEMPORARY.unlink(missing_ok=True)
        return [*_repair_lock_file(), *_repair_rwlock(), *_repair_run_cache(), *_remove_unfinished_outputs()]


def damages() -> list[str]:
    """Return what `repair` would repair, one line each."""
    incomplete = [
        f"{path} is incomplete: {problem}"
        for path, problem in ((lock_file.PATH, lock_file.problem()), (rwlock.PATH, rwlock.problem()))
        if problem
    ]
    dead = [f"a dead process ({pid}) owns paths in DVC's table" for pid in _dead_owners()]
    cut = [f"{path}: DVC's run cache has an entry whose write was cut off" for path in run_cache.unfinished()]
    left = [f"{path} was left unfinished by a stage that was killed" for path in _unfinished_outputs()]
    return [*incomplete, *dead, *cut, *left]


def _dead_owners() -> list[int]:
    """Return the owners in DVC's table that have ended; none if another machine holds a lock here, whose processes the table may name."""
    return [] if any(owner.elsewhere for owner in workspace_lease.held().values()) else rwlock.dead()


def _repair_lock_file() -> Iterator[str]:
    problem = lock_file.problem()
    if problem == lock_file.CONFLICT:
        raise ValueError(
            f"{lock_file.PATH}: {problem}. Keep one side of it, such as your own (git checkout --ours {lock_file.PATH}), and run this again: "
            "stages that do not fit their entries run, or are restored."
        )
    if problem:
        copy = workspace.SCRATCH / "dvc.lock.torn"
        copy.parent.mkdir(exist_ok=True)
        shutil.copyfile(lock_file.PATH, copy)
        if lock_file.GOOD.exists() and not lock_file.problem(lock_file.GOOD):
            shutil.copyfile(lock_file.GOOD, lock_file.TEMPORARY)
            lock_file.TEMPORARY.replace(lock_file.PATH)
            replacement = "the last good copy was put in its place"
        else:
            lock_file.PATH.unlink()
            replacement = "it is recreated from DVC's run cache"
        yield f"{lock_file.PATH} was incomplete ({problem}); {replacement}. {copy} is a copy of the incomplete file."


def _repair_rwlock() -> Iterator[str]:
    if problem := rwlock.problem():
        target = workspace.SCRATCH / "rwlock.torn"
        target.parent.mkdir(exist_ok=True)
        rwlock.PATH.rename(target)
        yield f"{rwlock.PATH} was incomplete ({problem}) and was moved to {target}."
    elif dead := _dead_owners():
        rwlock.drop(dead)
        yield f"DVC's table of paths in use named a process that has ended ({', '.join(map(str, dead))}); its entries are removed."


def _repair_run_cache() -> Iterator[str]:
    for path in run_cache.unfinished():
        if path.is_dir():
            path.rmdir()
        else:
            path.unlink()
        yield f"{path}, an entry of DVC's run cache whose write was cut off, is removed."


def _remove_unfinished_outputs() -> Iterator[str]:
    for path in _unfinished_outputs():
        files.remove(path)
        yield f"{path}, which a killed stage left unfinished, is removed."


def _unfinished_outputs() -> list[Path]:
    """Return the partial outputs of our stages; none while a stage runs here. Other files with that ending are a person's uploads."""
    places = [
        place for stage in configuration.stage_names() for place in configuration.declaration(stage).writes.values()
    ]
    patterns = [re.sub(r"\{\w+\}", "*", place) for place in places]
    paths = sorted({path for pattern in patterns for path in Path().glob(f"{pattern}.partial")})
    return [] if paths and workspace_lease.is_stage_running() else paths
