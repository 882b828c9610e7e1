"""Run a trial on a node of a cluster that sees the workspace at the same path, and return what it made.

The trial works in a scratch folder whose entries are links to the workspace's, so that its run spool and its unfinished work are its
own: of the workspace the node writes nothing but caches, which are named by their content. A node that was given up and comes back
disturbs nothing, and the owner alone writes the record.
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
"""What a trial sees of the workspace's scratch folder: caches by content, and models that other trials kept."""
SAID = 4_000
"""Characters that a trial's last words have at most."""


@dataclass(frozen=True)
class NodeTrial:
    """A trial on its way to a node."""

    files: Mapping[str, bytes]
    """Its settings and its request, by name."""
    parent: str
    """The MLflow run that its run belongs to."""
    reads: Mapping[str, str]
    """The digest of each input, by its path in the workspace."""


@dataclass(frozen=True)
class Ended:
    """The end of a trial: its exit code, and all that it made."""

    code: int
    """The exit code."""
    said: str
    """The last of what it printed."""
    files: Mapping[str, bytes]
    """What it made, by path in its folder."""
    runs: Mapping[str, bytes]
    """The events of its run, by our id of it."""


def identity() -> dict[str, str]:
    """Return what decides the bytes of a trial on this machine: the code, packages, and vector units."""
    return {"code": provenance.digest(CODE), **provenance.machine_class()}


def run(trial: NodeTrial) -> Ended:
    """Run a trial in a process of its own, which ends with this one, from the workspace that is the current folder.

    Raises ValueError if an input is not what it is on the machine that asks.
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
            env=os.environ
            | {environment.PARENT_RUN: trial.parent, environment.RAY: ""},  # whose nodes may all be at trials
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
    """Make a folder whose entries are links to those of the current one, with a scratch folder of its own."""
    (place / SCRATCH).mkdir(parents=True)
    for entry in Path.cwd().iterdir():
        if entry.name != SCRATCH:
            (place / entry.name).symlink_to(entry)
    for name in SHARED:
        if (shared := Path.cwd() / SCRATCH / name).exists():
            (place / SCRATCH / name).symlink_to(shared)


def keep(ended: Ended, folder: Path, result: str) -> None:
    """Write what a trial made to its folder, the result last: it is finished with that."""
    for path, content in sorted(ended.files.items(), key=lambda entry: entry[0] == result):
        files.write_atomically(folder / path, content)
