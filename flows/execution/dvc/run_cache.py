"""Look up DVC's run cache (`runs/ab/<key>/<value>` in its cache folder), and find entries that were not written completely."""

import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flows.execution.dvc import cache

if TYPE_CHECKING:
    from dvc.repo import Repo
    from dvc.stage import Stage

NAME = re.compile("[0-9a-f]{64}")
"""The name of an entry. A file with any other name is temporary: it was still being written."""
GRACE_S = 60.0
"""Seconds after which an unfinished entry counts as left behind, in a cache that other workspaces may write to."""


def is_used_for(stage: "Stage") -> bool:
    """Return True if DVC looks for earlier runs of this stage (`dvc.stage.cache._can_hash`, which needs the inputs to exist)."""
    outs = all(out.protocol == "local" and out.is_in_repo and not out.persist for out in stage.outs)
    deps = all(dep.protocol == "local" and dep.def_path for dep in stage.deps)
    return bool(stage.cmd and stage.deps and stage.outs and outs and deps) and not (
        stage.always_changed or stage.frozen
    )


def earlier_run(repo: "Repo", stage: "Stage", *, by_entry: bool) -> "Stage | None":
    """Return the latest run of a stage with its present inputs, its outputs included; None if DVC's cache lacks one.

    `by_entry`: the inputs are those of the stage's entry in dvc.lock, which then also names the outputs.
    """
    from dvc.stage.serialize import to_single_stage_lockfile

    entry = to_single_stage_lockfile(stage)
    if not by_entry or not all(out.hash_info for out in stage.outs):
        entry = _newest_entry(repo.stage_cache, entry)
    if not entry:
        return None
    run = repo.stage_cache._create_stage(entry, wdir=stage.wdir)
    return run if run.outs_cached() else None


def unfinished() -> list[Path]:
    """Return the temporary files and empty folders in the run cache, files first.

    DVC makes the folder, writes a temporary file in it, and renames that. If DVC is killed or the disk is full in between,
    `dvc.stage.cache` fails on the empty folder at every later run of that stage, or takes the temporary file for an entry.
    """
    runs = cache.folder() / "runs"
    keys = list(runs.glob("*/*"))
    temporary = [path for key in keys for path in key.iterdir() if not NAME.fullmatch(path.name)]
    empty = [key for key in keys if all(path in temporary for path in key.iterdir())]
    paths = [*temporary, *empty]
    if runs.resolve().is_relative_to(Path.cwd()):
        return paths
    return [path for path in paths if path.exists() and time.time() - path.stat().st_mtime > GRACE_S]


def _newest_entry(stage_cache: Any, entry: dict[str, Any]) -> dict[str, Any] | None:
    """Return the entry of the latest run with the same command, inputs and output names, which DVC would restore."""
    from dvc.stage.cache import _get_cache_hash

    key = _get_cache_hash(entry, key=True)
    runs = [path for path in Path(stage_cache._get_cache_dir(key)).glob("*") if path.is_file()]
    return stage_cache._load_cache(key, max(runs, key=lambda path: path.stat().st_mtime).name) if runs else None
