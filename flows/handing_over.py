"""A workspace for another machine: git carries settings, code and hashes, DVC's remote the files, one file of lines the MLflow runs.

The remote stands in `.dvc/config`, which git keeps and plain `dvc pull` reads, and not in params.yaml: no byte follows from it.
What differs from machine to machine (keys, another address of the same store) belongs in `.dvc/config.local` or the environment.
"""

import subprocess
import sys
from pathlib import Path

from flows import graph, history, ledger, versions
from flows.adoption import RAW
from tasks.io import progress, run_history, tracking

RUNS = Path("data/runs.jsonl")
"""The MLflow runs that made the present outputs, in git's reach."""
REMOTE = "store"


def share(address: str | None) -> None:
    """Write the runs, and push all outputs to DVC's remote; `address`, where one is given, becomes the remote.

    Raises ValueError where the workspace is not up to date or has no remote, RuntimeError where DVC fails.
    """
    waiting = [step.stage for step in graph.plan() if step.state != "unchanged"]
    if waiting:
        raise ValueError(f"These stages are not up to date: {', '.join(waiting)}. `ratchet run` first.")
    if address:
        _dvc("remote", "add", "--quiet", "--default", "--force", REMOTE, address)
    elif not graph.has_remote():
        raise ValueError(
            "DVC has no remote yet. Name a folder or an address: ratchet share --to ../store (or s3://bucket/path, with the extra s3)."
        )
    progress.say(_export())
    _dvc("push", "--run-cache")
    carried = " ".join(str(path) for path in (RUNS, history.HISTORY) if path.is_file())
    progress.say(
        f"Pushed. What git carries: git add .dvc/config dvc.lock params.yaml {carried} && git commit && git push\n"
        f"{_own_files()}{_versions()}"
        "On the other machine:  git clone … && dvc pull && ratchet verify"
    )


def _own_files() -> str:
    """What to do about the files in data/raw that git does not know, a line; empty where there are none."""
    command = ["git", "ls-files", "--others", "-z", "--", str(RAW)]
    found = subprocess.run(command, capture_output=True, text=True, check=False).stdout.split("\0")
    files = [Path(name) for name in found if name]
    if not files:
        return ""
    size = sum(file.stat().st_size for file in files) / 1e6
    return (
        f"{RAW} holds files that neither DVC nor git carries ({len(files)}, {size:.1f} MB): git add --force {RAW}, "
        "or bring them there yourself; without them `ratchet verify` says that it changed.\n"
    )


def _versions() -> str:
    """What to do about promoted models, a line; empty where there are none."""
    if not history.read().promoted:
        return ""
    size = sum(file.stat().st_size for file in versions.FOLDER.rglob("*") if file.is_file()) / 1e6
    return (
        f"{versions.FOLDER} holds what was promoted ({size:.1f} MB), and neither DVC nor git carries it. Where more is to be "
        f"promoted, copy it: rsync -a {versions.FOLDER} ….\n"
    )


def _export() -> str:
    made = tracking.produced_by(ledger.keys([step.stage for step in graph.plan()]))
    number = run_history.export(made.values(), RUNS) if made else 0
    return f"{RUNS}: {number} MLflow runs, which made the outputs of {len(made)} stages."


def _dvc(*arguments: str) -> None:
    done = subprocess.run([sys.executable, "-m", "dvc", *arguments], check=False)
    if done.returncode:
        raise RuntimeError(f"`dvc {' '.join(arguments)}` failed; the lines above say why.")
