"""Share a workspace: git carries config, code and hashes, DVC's remote the files, and data/runs.jsonl the MLflow runs.

The remote stands in `.dvc/config`, which git keeps and plain `dvc pull` reads, and not in params.yaml: no output depends on it.
What differs from machine to machine (keys, another address of the same store) belongs in `.dvc/config.local` or the environment.
"""

from pathlib import Path

from flows.execution import flow_runs, workspace_lease
from flows.execution.dvc import cache, forecast
from flows.project.data_import import RAW
from flows.registry import history, versions
from flows.registry.evidence import signing
from tasks.io.runs import run_history, tracking
from tasks.io.system import git, progress

RUNS = Path("data/runs.jsonl")
"""The MLflow runs that made the present outputs, for git to carry."""
DECISIONS = tuple(Path(f"data/review_{of}.jsonl") for of in ("decisions", "records", "items"))
"""The review decisions, which stages read: without them the other machine would run these stages again."""


def share_workspace(address: str | None) -> None:
    """Write the runs, and push all outputs to DVC's remote; `address` becomes the remote if one is given.

    Raises ValueError if the workspace is not up to date or has no remote, RuntimeError if a run works here or DVC fails.
    """
    with workspace_lease.acquired():
        waiting = [step.stage for step in forecast.plan() if step.state != "unchanged"]
        if waiting:
            raise ValueError(f"These stages are not up to date: {', '.join(waiting)}. `ratchet run` first.")
        if address:
            cache.set_remote(address)
        elif not cache.has_remote():
            raise ValueError(
                "DVC has no remote yet. Name a folder or an address: ratchet share --to ../store (or s3://bucket/path, with the extra s3)."
            )
        progress.say(_export_runs())
        cache.push()
    carried = " ".join(str(path) for path in (RUNS, history.HISTORY, *DECISIONS, signing.TRUSTED) if path.is_file())
    progress.say(
        f"Pushed. What git carries: git add .dvc/config dvc.lock params.yaml {carried} && git commit && git push\n"
        f"{_untracked_files()}{_versions()}"
        "On the other machine:  git clone … && dvc pull && ratchet verify"
    )


def _untracked_files() -> str:
    """Return a line about the files in data/raw that git does not track; empty if there are none."""
    files = git.untracked(RAW)
    if not files:
        return ""
    size = sum(file.stat().st_size for file in files) / 1e6
    return (
        f"{RAW} holds files that neither DVC nor git carries ({len(files)}, {size:.1f} MB): git add --force {RAW}, "
        "or copy them there yourself; without them `ratchet verify` says that it changed.\n"
    )


def _versions() -> str:
    """Return a line about promoted models; empty if there are none."""
    if not history.read().promoted:
        return ""
    size = sum(file.stat().st_size for file in versions.FOLDER.rglob("*") if file.is_file()) / 1e6
    return (
        f"{versions.FOLDER} holds the promoted versions ({size:.1f} MB), which neither DVC nor git carries. To promote on "
        f"another machine, copy it: rsync -a {versions.FOLDER} ….\n"
    )


def _export_runs() -> str:
    runs = tracking.produced_by(flow_runs.stage_keys([step.stage for step in forecast.plan()]))
    number = run_history.export(runs.values(), RUNS) if runs else 0
    return f"{RUNS}: {number} MLflow runs, which made the outputs of {len(runs)} stages."
