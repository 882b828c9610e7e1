"""Run a trial on a node of a cluster that has the workspace at the same path, and return the files that it wrote.

The trial works in a scratch folder whose entries are links to those of the workspace, so that it has its own run spool and unfinished work. In
the workspace the node writes only caches, which are named by their contents. So a node that was given up and comes back disturbs nothing,
and only the machine that asked writes the result.
"""

import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tasks.core import environment
from tasks.io import provenance
from tasks.io.system import files, scratch

CODE = Path("tasks")
SCRATCH, SPOOL = ".ratchet", "spool"
SHARED = ("cache", "compare", "digests.json", "huggingface")
"""Entries of the workspace's scratch folder that a trial uses: caches by content, and models that other trials kept."""
SAID = 4_000
"""Most characters of a trial's output that are returned, the last ones."""


@dataclass(frozen=True)
class NodeTrial:
    """A trial in the form in which it is sent to a node."""

    files: Mapping[str, bytes]
    """Its settings and its request, by name."""
    parent: str
    """The MLflow run that is the parent of its run."""
    reads: Mapping[str, str]
    """The digest of each input, by its path in the workspace."""


@dataclass(frozen=True)
class Ended:
    """The result of a trial: its exit code, and all files that it wrote."""

    code: int
    """The exit code."""
    said: str
    """The end of its output."""
    files: Mapping[str, bytes]
    """The files that it wrote, by path in its folder."""
    runs: Mapping[str, bytes]
    """The events of its runs, by Ratchet's id of the run."""


def identity() -> dict[str, str]:
    """Return everything on this machine that determines the bytes of a trial: code, packages and vector units."""
    return {"code": provenance.digest(CODE), **provenance.machine_class()}


def run(trial: NodeTrial) -> Ended:
    """Run a trial in a child process, which ends with this one, with the current folder as the workspace.

    Raises ValueError if an input differs from that on the machine that asked.
    """
    _check(trial.reads)
    with scratch.folder("trial") as own:
        place, folder = own / "workspace", own / "trial"
        _lay_out(place)
        folder.mkdir()
        for path, content in trial.files.items():
            (folder / path).write_bytes(content)
        done = subprocess.run(
            [sys.executable, "-m", "tasks.run_trial", str(folder)],
            cwd=place,
            # Without Ray, since all nodes of the cluster may be busy with trials.
            env=os.environ | {environment.PARENT_RUN: trial.parent, environment.RAY: ""},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            check=False,
        )
        made = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        runs = {path.stem: path.read_bytes() for path in (place / SCRATCH / SPOOL).glob("*.jsonl")}
        new = {path: content for path, content in made.items() if path not in trial.files}
        return Ended(done.returncode, done.stdout[-SAID:], new, runs)


def _check(reads: Mapping[str, str]) -> None:
    if others := [path for path, digest in reads.items() if provenance.digest(Path(path)) != digest]:
        raise ValueError(
            f"{os.uname().nodename} has other contents at {', '.join(others)} in {Path.cwd()} than this machine. Share the workspace between "
            "the nodes of the cluster, or copy these there."
        )


def _lay_out(place: Path) -> None:
    """Create a folder whose entries are links to those of the current folder, but with its own scratch folder."""
    (place / SCRATCH).mkdir(parents=True)
    for entry in Path.cwd().iterdir():
        if entry.name != SCRATCH:
            (place / entry.name).symlink_to(entry)
    for name in SHARED:
        if (shared := Path.cwd() / SCRATCH / name).exists():
            (place / SCRATCH / name).symlink_to(shared)


def keep(ended: Ended, folder: Path, result: str) -> None:
    """Write a trial's files to its folder, the result last, since the result marks the trial as finished."""
    for path, content in sorted(ended.files.items(), key=lambda entry: entry[0] == result):
        files.write_atomically(folder / path, content)
